//! The stages of a run: train, search, fine-tune, compare; each saves a network.

use super::measured::latency;
use super::plan::StagePlan;
use super::run_folder::{DENSE, FINETUNE, REFERENCE};
use super::stage::{FinishedStage, StageSetup};
use super::{ImageClassifier, Pipeline, Progress, StageConfig};
use crate::components::Components;
use crate::cost::{Budget, Metric};
use crate::error::PipelineError;
use crate::search::{Search, SearchBuilder, SearchOptions};
use crate::subnet::{
    Description, Differences, Export, Extracted, LatencyComparison, Provenance, Subnet,
    Verification,
};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Test images that an extraction is verified on.
const CALIBRATION: i64 = 64;

/// A network that a stage made.
pub(super) struct Trained<A: ImageClassifier> {
    pub(super) network: Subnet<A>,
    pub(super) verification: Verification,
    /// Latencies of the dense network and of this one.
    pub(super) latency: Vec<LatencyComparison>,
    pub(super) stage: FinishedStage<A>,
}

/// Search that a subnet is from.
pub(super) struct Origin {
    pub(super) provenance: Provenance,
    /// Verification of its extraction; `None` for a network without an artifact.
    pub(super) verification: Option<Verification>,
}

impl Origin {
    /// That of an artifact.
    pub(super) fn read<A: ImageClassifier>(folder: &Path) -> Result<Self> {
        let provenance = Description::<A>::read(folder)?.provenance;
        let verification = Some(Differences::read(folder)?.extraction);
        Ok(Self { provenance, verification })
    }
}

/// The network of a stage, to be saved.
struct Saving<'b, A: ImageClassifier> {
    folder: PathBuf,
    /// Network to compare the latency with.
    dense: Option<&'b Subnet<A>>,
    /// Whether it is a result, with files for other programs.
    exports: bool,
    /// Origin of the network that the stage started with, if that was a subnet.
    before: Option<Origin>,
}

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Trains the dense network, from given weights or from random ones.
    pub(super) fn train(&self, start: Option<&Subnet<A>>) -> Result<Option<Trained<A>>> {
        let config = section("train", self.config.train.as_ref())?;
        let setup = self.setup("train", DENSE, config, 0);
        let network = start.map_or(&self.dense, Subnet::architecture);
        let Some(stage) = self.training(&setup, network, start)? else { return Ok(None) };
        let saving = Saving { exports: false, folder: self.run.dense(), dense: None, before: None };
        self.save(stage, saving).map(Some)
    }

    /// Trains the dense network for as many steps as the search has, on the same batches.
    pub(super) fn compare(&self, dense: &Subnet<A>) -> Result<Option<Trained<A>>> {
        let config = self.config.search.plain();
        let setup = self.setup("compare", REFERENCE, &config, 1);
        let network = dense.architecture();
        let Some(stage) = self.training(&setup, network, Some(dense))? else { return Ok(None) };
        let folder = self.run.reference();
        self.save(stage, Saving { exports: false, folder, dense: None, before: None }).map(Some)
    }

    /// Fine-tunes a subnet; provenance and verification of its search are carried on. Its latency is compared with that of
    /// `dense`.
    pub(super) fn finetune(
        &self,
        subnet: &Subnet<A>,
        before: Option<Origin>,
        dense: Option<&Subnet<A>>,
    ) -> Result<Option<Trained<A>>> {
        let config = section("finetune", self.config.finetune.as_ref())?;
        let setup = self.setup("finetune", FINETUNE, config, 2);
        let network = subnet.architecture();
        let Some(stage) = self.training(&setup, network, Some(subnet))? else { return Ok(None) };
        let saving = Saving { exports: true, folder: self.run.finetuned(), dense, before };
        self.save(stage, saving).map(Some)
    }

    /// Searches a trained network, and fine-tunes the subnet in the steps that are left.
    pub(super) fn search(&self, dense: &Subnet<A>) -> Result<Option<Trained<A>>> {
        let config = &self.config.search;
        let setup = self.setup("search", "", config, 1);
        let apart = self.config.space.apart(dense)?;
        let searched = apart.as_ref().unwrap_or(dense);
        let builder = self.search_of(searched.architecture())?.weights(searched.weights());
        let (network, options) = (searched.architecture(), self.search_options()?);
        let Some(stage) = self.stage(&setup, network, options, builder)? else { return Ok(None) };
        let saving =
            Saving { exports: true, folder: self.run.subnet(), dense: Some(dense), before: None };
        self.save(stage, saving).map(Some)
    }

    /// The search of a network, without its options and weights.
    pub(super) fn search_of(&self, dense: &A) -> Result<SearchBuilder<A>> {
        let components = self.config.search.search_components()?;
        let components = Components { teacher: self.teacher.clone(), ..components };
        let latency = self.latency_model()?;
        let mut budgets = self.config.budgets(dense, latency.as_ref())?;
        let space = self.config.space.of(dense, latency.as_ref())?;
        let builder =
            Search::of(self.config.space.searched(dense)?).space(space).components(components);
        if let Some(latency) = latency {
            let builder = builder.budgets(budgets).latency(latency);
            return Ok(match self.meter_here()? {
                None => builder,
                Some(meter) => builder.latency_meter(Arc::new(meter)),
            });
        }
        // Before the latency is measured, the other budgets can be checked.
        budgets.retain(|budget| budget.metric != Metric::Latency);
        if budgets.is_empty() {
            budgets.push(Budget::macs_share(1.0));
        }
        Ok(builder.budgets(budgets))
    }

    fn setup<'b>(
        &self,
        name: &'static str,
        folder: &str,
        config: &'b StageConfig,
        seed: u64,
    ) -> StageSetup<'b> {
        // `join("")` would end the path with a slash.
        let path = self.run.path();
        let folder = if folder.is_empty() { path.into() } else { path.join(folder) };
        StageSetup { name, folder, config, seed: self.config.seed.wrapping_add(seed) }
    }

    /// Plain training of a network.
    fn training(
        &self,
        setup: &StageSetup,
        network: &A,
        start: Option<&Subnet<A>>,
    ) -> Result<Option<FinishedStage<A>>> {
        let options = self.training_options(setup.name, setup.config)?;
        let components = Components { teacher: self.teacher.clone(), ..Components::default() };
        let mut builder = Search::of(network.clone()).components(components);
        if let Some(start) = start {
            builder = builder.weights(start.weights());
        }
        self.stage(setup, network, options, builder)
    }

    /// Runs a stage by its plan.
    fn stage(
        &self,
        setup: &StageSetup,
        network: &A,
        options: SearchOptions,
        builder: SearchBuilder<A>,
    ) -> Result<Option<FinishedStage<A>>> {
        let plan = StagePlan {
            name: setup.name.into(),
            steps: options.total_steps,
            family: Some(A::FAMILY.into()),
            network: network.clone(),
            options: Some(options.clone()),
            trained_from: self.config.weights.clone().filter(|_| setup.name == "train"),
        };
        let builder = builder.options(options).device(self.feed.device());
        let stage = self.run_stage(setup, &plan, builder);
        stage.map_err(|error| setup.rate().explain(error))
    }

    /// Extracts, verifies and saves the network of a stage. Rank 0 saves it, and loads it from disk.
    fn save(&self, mut stage: FinishedStage<A>, saving: Saving<A>) -> Result<Trained<A>> {
        let images = self.feed.calibration_batch(CALIBRATION)?;
        let extracted = stage.search.extract(&images);
        let extracted = extracted.map_err(|error| stage.rate.explain(error));
        let mut extracted = self.group.agree(extracted)?;
        let verification = extracted.verification;
        let written = self
            .group
            .on_main_for_long(|goes_on| self.write_network(&mut extracted, saving, goes_on))?;
        let (network, latency) = written.unwrap_or((extracted.subnet, Vec::new()));
        Ok(Trained { network, verification, latency, stage })
    }

    /// Saves an extracted network and loads it from disk; with the latencies of dense network and
    /// subnet. `goes_on` is called before each part.
    fn write_network(
        &self,
        extracted: &mut Extracted<A>,
        saving: Saving<A>,
        goes_on: &dyn Fn() -> Result<()>,
    ) -> Result<(Subnet<A>, Vec<LatencyComparison>)> {
        if let Some(Origin { provenance: before, verification }) = saving.before {
            // The masked network of a fine-tuning is the subnet itself.
            extracted.verification = verification.unwrap_or(extracted.verification);
            let own = extracted.provenance.steps.unwrap_or_default();
            let steps = Some(before.steps.unwrap_or_default().saturating_add(own));
            let crate_version = std::mem::take(&mut extracted.provenance.crate_version);
            extracted.provenance = Provenance { steps, crate_version, ..before };
        } else if extracted.provenance.limits.is_empty() {
            // Nothing was searched.
            extracted.provenance.components = None;
        }
        let mut export = Export::f32();
        if saving.exports {
            export = exports(extracted.architecture(), export);
        }
        if let Some(dense) = saving.dense {
            export.latency = latency(dense, extracted, &self.feed, goes_on)?;
        }
        goes_on()?;
        extracted.write(&saving.folder, &export, &|files, reason| {
            self.show(&Progress::NotExported { files, reason: &reason });
            Ok(())
        })?;
        Ok((Subnet::load(&saving.folder, self.feed.device())?, export.latency))
    }
}

/// All files that the family can be exported to.
fn exports<A: ImageClassifier>(architecture: &A, export: Export) -> Export {
    match has_exports(architecture) {
        true => export.torchscript().onnx(),
        false => export,
    }
}

/// Whether the family describes its networks for exports.
pub(super) fn has_exports<A: ImageClassifier>(architecture: &A) -> bool {
    !matches!(architecture.graph(), Err(Error::Unsupported { .. }))
}

fn section<'b>(name: &'static str, config: Option<&'b StageConfig>) -> Result<&'b StageConfig> {
    let missing = || {
        let reason = format!("got no section [{name}], expected one for this stage");
        PipelineError::options("options of the run", reason)
    };
    Ok(config.ok_or_else(missing)?)
}
