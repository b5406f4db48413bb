//! The report of a run, from the files in its folder.

use super::plan::{StagePlan, PLAN};
use super::{Config, ImageClassifier, NetworkSummary, RunFolder, Summary};
use crate::components::Reconstruction;
use crate::cost::Metric;
use crate::data::Normalisation;
use crate::error::PipelineError;
use crate::files::{if_there, read_json, read_to_string};
use crate::latency::LatencyModel;
use crate::report::{NetworkFigures, Report, Sample, Stage};
use crate::search::{read_events, METRICS};
use crate::subnet::Description;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Writes `report.html` of a run, finished or not, and returns its path.
///
/// # Errors
/// [`PipelineError::NoRun`] for a folder without a run or without a stage; those of the files.
pub fn write_report<A: ImageClassifier>(run: &RunFolder) -> Result<PathBuf> {
    let none = |file| PipelineError::NoRun { folder: run.path().into(), file };
    let config = read_to_string(&run.config()).map_err(|e| Error::io("read", run.config(), e));
    let config = if_there(config)?.ok_or_else(|| none(super::run_folder::CONFIG))?;
    let options = Config::read(&run.config())?;
    let (mut stages, mut dense) = (Vec::new(), None);
    let (mut searched, mut finetuned_alone) = (false, true);
    for folder in run.stages() {
        let Some(plan) = StagePlan::<A>::read(&folder)? else { continue };
        let events = if_there(read_events(&folder.join(METRICS)))?.unwrap_or_default();
        searched |= plan.name == "search";
        finetuned_alone &= plan.name == "finetune";
        // The network that is searched, whose queries and keys may be apart from values.
        dense = match &*plan.name {
            "search" => Some(plan.network),
            "train" => Some(options.space.searched(&plan.network)?),
            _ => dense.or(Some(plan.network)),
        };
        stages.push(Stage { name: plan.name, steps: Some(plan.steps), events });
    }
    let dense = dense.ok_or_else(|| none(PLAN))?;
    let summary = Summary::read(&run.summary())?;
    let subnet = run.newest_subnet().map(|folder| Description::<A>::read(&folder)).transpose()?;
    let latency = match options.budget.latency {
        Some(_) => if_there(LatencyModel::read(run.latency()))?,
        None => None,
    };
    let searched = searched && (latency.is_some() || options.budget.latency.is_none());
    let figures = |network: &A, of: fn(&Summary) -> &NetworkSummary| -> Result<NetworkFigures> {
        let top1 = summary.as_ref().map(|summary| of(summary).top1);
        let sizes = network.cost_model().dense;
        let latency_ms = latency.as_ref().map(|own| own.predict(&sizes)).transpose()?;
        Ok(NetworkFigures { top1, latency_ms, ..network_figures(network)? })
    };
    let report = Report {
        title: title::<A>(run.path(), &options),
        facts: facts(&options, summary.as_ref()),
        budgets: if searched { options.limits(&dense, latency.as_ref())? } else { Vec::new() },
        // Of a subnet of another folder, the dense network is not known.
        dense: (!finetuned_alone).then(|| figures(&dense, |own| &own.dense)).transpose()?,
        subnet: subnet
            .as_ref()
            .map(|own| figures(&own.architecture, |own| &own.subnet))
            .transpose()?,
        latency: subnet.map(|own| own.latency).unwrap_or_default(),
        latency_model: latency.clone(),
        samples: samples(run, &options)?,
        sensitivity: if_there(read_json(&run.sensitivity()))?,
        stages,
        config,
    };
    let path = run.path().join("report.html");
    report.write(&path)?;
    Ok(path)
}

/// Cost and sizes of a network.
fn network_figures<A: ImageClassifier>(network: &A) -> Result<NetworkFigures> {
    let cost = network.cost_model();
    Ok(NetworkFigures {
        macs: cost.dense_cost(Metric::Macs)?,
        params: cost.dense_cost(Metric::Params)?,
        latency_ms: None,
        top1: None,
        stages: network.drawn_stages(),
    })
}

fn title<A: ImageClassifier>(run: &Path, options: &Config) -> String {
    let data = match &options.data.folder {
        Some(folder) => folder.file_name().map_or("images".into(), |name| name.to_string_lossy()),
        None => "built-in images".into(),
    };
    let name = run.file_name().map_or("run".into(), |name| name.to_string_lossy());
    format!("{name}: {} on {data}", A::FAMILY)
}

fn facts(options: &Config, summary: Option<&Summary>) -> Vec<(String, String)> {
    let mut facts =
        vec![("seed".into(), options.seed.to_string()), ("device".into(), options.device.clone())];
    if let Some(data) = summary.map(|summary| &summary.dataset) {
        facts.push(("training images".into(), data.train.to_string()));
        facts.push(("test images".into(), data.test.to_string()));
    }
    facts
}

/// The first and the last reconstruction; none for images that are neither grey nor RGB, which have no picture.
fn samples(run: &RunFolder, options: &Config) -> Result<Vec<Sample>> {
    let files = run.paintings()?;
    let (mean, std) = (options.data.mean.clone(), options.data.std.clone());
    let pixels = Normalisation { mean, std };
    let mut samples = Vec::new();
    for file in files.iter().take(1).chain(files.iter().skip(1).last()) {
        let tensors: BTreeMap<String, Tensor> =
            Tensor::read_safetensors(file)?.into_iter().collect();
        let of = |name: &str| {
            let tensor = tensors.get(name).map(Tensor::shallow_clone);
            tensor.ok_or_else(|| Error::file(file, format!("got no tensor {name}, expected one")))
        };
        let painting = Reconstruction {
            images: of("images")?,
            masked: of("hidden")?,
            reconstructed: of("painted")?,
        };
        if ![1, 3].contains(&painting.images.size4()?.1) {
            return Ok(Vec::new());
        }
        let step = file.file_stem().map_or("".into(), |stem| stem.to_string_lossy());
        let step = step.trim_start_matches("step-").trim_start_matches('0');
        samples.extend(Sample::of(&painting, &pixels, |image| {
            format!("test image {image}, step {step}")
        })?);
    }
    Ok(samples)
}
