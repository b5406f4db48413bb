//! The network that a command starts from: found and loaded once, before anything is written.

use super::networks::{self, Loaded};
use super::pinned::is_named_by;
use super::plan::StagePlan;
use super::run_folder::is_saved;
use super::stages::Origin;
use super::{Command, Config, ImageClassifier, Pipeline, Progress, RunFolder};
use crate::error::PipelineError;
use crate::search::METRICS;
use crate::subnet::{Provenance, Subnet};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The network that a command starts from.
pub(super) enum Start<A: ImageClassifier> {
    /// The dense network of the configuration, with random weights.
    Random,
    /// A dense network to train or to search.
    Dense(Loaded<A>),
    /// A subnet to fine-tune.
    Subnet(Box<SubnetStart<A>>),
}

/// A subnet to fine-tune.
pub(super) struct SubnetStart<A: ImageClassifier> {
    pub(super) subnet: Subnet<A>,
    pub(super) origin: Origin,
    /// The network that it was searched from, on rank 0: latencies are compared with it. `None` for a subnet of another
    /// folder, and for a network that is not there any more.
    pub(super) dense: Option<Subnet<A>>,
}

impl<A: ImageClassifier> Start<A> {
    /// The dense network on disk.
    pub(super) fn dense(&self) -> Option<&Subnet<A>> {
        match self {
            Self::Dense(start) => Some(&start.network),
            Self::Random | Self::Subnet(_) => None,
        }
    }

    /// The network on disk.
    pub(super) fn subnet(&self) -> Option<&Subnet<A>> {
        match self {
            Self::Random => None,
            Self::Dense(start) => Some(&start.network),
            Self::Subnet(start) => Some(&start.subnet),
        }
    }

    /// What the network is, and its architecture; `random` is that of random weights.
    pub(super) fn network<'a>(&'a self, random: &'a A) -> (&'static str, &'a A) {
        match self {
            Self::Random => ("dense network", random),
            Self::Dense(start) => ("dense network", start.network.architecture()),
            Self::Subnet(start) => ("subnet", start.subnet.architecture()),
        }
    }
}

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Loads a network that fits the images: from a run folder, an artifact, or a checkpoint, which
    /// is fitted to the dense network. `name` is the network's name in errors.
    ///
    /// # Errors
    /// [`Error::File`] for a path without a network; [`PipelineError::Misfit`] for one that does
    /// not fit the images; those of import and artifact.
    pub fn load(&self, path: &Path, name: &str) -> Result<Subnet<A>> {
        Ok(self.loaded(path, name)?.network)
    }

    /// [`load`](Self::load) of a network that is used as it is. `because` says for what.
    ///
    /// # Errors
    /// Those of `load`; [`PipelineError::Untrained`] for a checkpoint that lacks variables of the network,
    /// or has a classifier for other classes.
    pub fn load_trained(
        &self,
        path: &Path,
        name: &str,
        because: &'static str,
    ) -> Result<Subnet<A>> {
        let loaded = self.loaded(path, name)?;
        loaded.expect_trained(name, because)?;
        Ok(loaded.network)
    }

    fn loaded(&self, path: &Path, name: &str) -> Result<Loaded<A>> {
        let options = self.config.import.options(self.config.seed);
        let device = self.feed.device();
        let loaded = networks::load(path, &self.dense, &options, device, &|own| self.show(own))?;
        networks::expect_fits(loaded.network.architecture(), &self.feed, name)?;
        Ok(loaded)
    }

    /// The dense network: that of the configuration, or what `train` made of it or of random weights in the run folder.
    pub(super) fn dense_start(&self) -> Result<Start<A>> {
        let (dense, given) = (self.run.dense(), self.config.weights.as_deref());
        let trained = self.run.is_trained_from(given)?;
        Ok(match given {
            _ if trained => Start::Dense(self.loaded(&dense, "dense network of the run")?),
            Some(path) => Start::Dense(self.loaded(path, "weights")?),
            None => Start::Random,
        })
    }

    /// The subnet to fine-tune, and its name in errors: that in the run folder, or that of the
    /// configuration.
    ///
    /// # Errors
    /// [`PipelineError::NoSubnet`] if there is none; [`PipelineError::Unfinished`] for a search that has not ended, with the
    /// dense training that it is compared with: its summary is of the subnet as searched.
    pub(super) fn subnet_to_finetune(&self) -> Result<(PathBuf, &'static str)> {
        let own = self.run.subnet();
        match &self.config.weights {
            _ if self.is_being_compared() => Err(self.unfinished("search")),
            _ if is_saved(&own) => Ok((own, "subnet of the run")),
            // `weights` are those that the search began with.
            _ if self.run.has_begun(Some(Command::Search)) => Err(self.unfinished("search")),
            Some(path) => Ok((path.clone(), "weights")),
            None => Err(PipelineError::NoSubnet { folder: self.run.path().into() }.into()),
        }
    }

    /// Whether the dense network for comparison has begun to train, and has not ended.
    fn is_being_compared(&self) -> bool {
        let reference = self.run.reference();
        let begun = reference.with_file_name(METRICS).is_file();
        self.config.compare && begun && !is_saved(&reference)
    }

    /// The network to fine-tune, with its provenance and the dense network that it was searched from.
    pub(super) fn subnet_start(&self) -> Result<Start<A>> {
        let (path, name) = self.subnet_to_finetune()?;
        let subnet = self.load(&path, name)?;
        let origin = match RunFolder::new(path).artifact() {
            Some(folder) => Origin::read::<A>(&folder)?,
            None => {
                let own = Provenance::of(subnet.architecture())?;
                let provenance = Provenance { seed: Some(self.config.seed), ..own };
                Origin { provenance, verification: None }
            }
        };
        let dense = self.searched_network()?;
        Ok(Start::Subnet(Box::new(SubnetStart { subnet, origin, dense })))
    }

    /// The network that the subnet in the run folder was searched from. Without it, the subnet is fine-tuned all the same:
    /// only latencies are measured on it.
    fn searched_network(&self) -> Result<Option<Subnet<A>>> {
        if !self.group.is_main() || !is_saved(&self.run.subnet()) {
            return Ok(None);
        }
        let loaded = self.dense_start().and_then(|start| match start {
            Start::Dense(dense) => self.expect_searched(dense.network),
            Start::Random | Start::Subnet(_) => Err(no_dense_network()),
        });
        match loaded {
            Ok(dense) => Ok(Some(dense)),
            Err(reason) if self.are_weights_of_the_run()? => {
                self.show(&Progress::LatencyNotCompared { reason: &reason });
                Ok(None)
            }
            Err(refused) => Err(refused),
        }
    }

    /// Refuses a network of other sizes than the search in the run folder began with.
    fn expect_searched(&self, dense: Subnet<A>) -> Result<Subnet<A>> {
        if let Some(plan) = StagePlan::<A>::read(self.run.path())? {
            let searched = self.config.space.searched(dense.architecture())?;
            self.expect_network(&searched, &plan.network)?;
        }
        Ok(dense)
    }

    /// Whether the weights of the configuration are those that the run folder names, and not others given now. A run of an
    /// earlier version may name a folder.
    fn are_weights_of_the_run(&self) -> Result<bool> {
        let saved = Config::read(&self.run.config())?.weights;
        Ok(match (&self.config.weights, saved) {
            (Some(own), Some(saved)) => is_named_by(own, &saved),
            (own, saved) => own.is_none() && saved.is_none(),
        })
    }

    pub(super) fn unfinished(&self, stage: &'static str) -> Error {
        PipelineError::Unfinished { folder: self.run.path().into(), stage }.into()
    }
}

pub(super) fn no_dense_network() -> Error {
    let expected = "weights, or a dense network in the run folder (train one first)".into();
    PipelineError::NoNetwork { purpose: "search", expected }.into()
}
