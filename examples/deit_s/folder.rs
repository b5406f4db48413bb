//! What a run's folder holds, and the report that is made of it.

use crate::config::Config;
use crate::layers::{CONFIG, METRICS};
use crate::networks::{newest, DENSE};
use crate::AnyError;
use once_for_both::components::Reconstruction;
use once_for_both::data::Normalisation;
use once_for_both::models::VitConfig;
use once_for_both::report::{NetworkFigures, Report, Sample, Stage};
use once_for_both::search::{read_events, SearchOptions};
use once_for_both::subnet::Description;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Name of the file with what came of a run.
pub const SUMMARY: &str = "summary.json";
const PLAN: &str = "plan.json";
const PAINTINGS: &str = "paintings";
/// Stages in the order they are run: their folders under the run's.
const STAGES: [&str; 4] = ["dense", ".", "finetune", "reference"];

/// What a stage is meant to be, written when it begins.
#[derive(Serialize, Deserialize)]
pub struct Intent {
    pub name: String,
    pub steps: u64,
    pub network: VitConfig,
    /// Everything the stage was told, the library's defaults too.
    #[serde(default)]
    pub options: Option<SearchOptions>,
}

impl Intent {
    pub fn write(&self, folder: &Path) -> Result<(), AnyError> {
        write_whole(&folder.join(PLAN), &serde_json::to_vec_pretty(self)?)
    }
}

/// Writes beside and renames: a run that is killed leaves the old file or the new one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), AnyError> {
    let beside = path.with_extension("partial");
    std::fs::write(&beside, bytes)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// Keeps what is painted into hidden patches after `step` steps.
pub fn write_painting(
    folder: &Path,
    step: u64,
    painting: &Reconstruction,
) -> once_for_both::Result<()> {
    let folder = folder.join(PAINTINGS);
    std::fs::create_dir_all(&folder).map_err(|source| once_for_both::Error::Io {
        action: "create",
        path: folder.clone(),
        source,
    })?;
    let Reconstruction { images, hidden, painted } = painting;
    let named = [("images", images), ("hidden", hidden), ("painted", painted)];
    let path = folder.join(format!("step-{step:08}.safetensors"));
    Ok(Tensor::write_safetensors(&named, path)?)
}

/// Writes report.html of a run, finished or not.
pub fn write_report(run: &Path) -> Result<PathBuf, AnyError> {
    let config = std::fs::read_to_string(run.join(CONFIG))
        .map_err(|error| format!("{} holds no run: {CONFIG}: {error}", run.display()))?;
    let options: Config = toml::from_str(&config)?;
    let (mut stages, mut dense, mut searched) = (Vec::new(), None, false);
    for folder in STAGES.map(|stage| run.join(stage)) {
        let Ok(text) = std::fs::read_to_string(folder.join(PLAN)) else { continue };
        let intent: Intent = serde_json::from_str(&text)?;
        let file = folder.join(METRICS);
        let events = if file.is_file() { read_events(&file)? } else { Vec::new() };
        searched |= intent.name == "search";
        dense.get_or_insert(intent.network);
        stages.push(Stage { name: intent.name, steps: Some(intent.steps), events });
    }
    let dense = dense.ok_or_else(|| format!("{} holds no stage of a run", run.display()))?;
    let summary = std::fs::read_to_string(run.join(SUMMARY)).ok();
    let summary: Option<Value> = summary.map(|text| serde_json::from_str(&text)).transpose()?;
    let subnet = last_network(run)?;
    let figure = |network: &VitConfig, of: &str| -> Result<NetworkFigures, AnyError> {
        let mut figures = NetworkFigures::of(network)?;
        figures.top1 = summary.as_ref().and_then(|summary| summary[of]["top1"].as_f64());
        Ok(figures)
    };
    let report = Report {
        title: title(run, &options, &dense),
        facts: facts(&options, summary.as_ref()),
        budgets: if searched { options.budgets(&dense)? } else { Vec::new() },
        latency: latency(run)?,
        samples: paintings(run, &options)?,
        dense: Some(figure(&dense, "dense")?),
        subnet: subnet.map(|network| figure(&network, "subnet")).transpose()?,
        stages,
        config,
    };
    let path = run.join("report.html");
    report.write(&path)?;
    Ok(path)
}

fn title(run: &Path, options: &Config, dense: &VitConfig) -> String {
    let data = match &options.data.folder {
        Some(folder) => folder.file_name().map_or("images".into(), |name| name.to_string_lossy()),
        None => "built-in images".into(),
    };
    let name = run.file_name().map_or("run".into(), |name| name.to_string_lossy());
    let (width, depth) = (dense.embed_dim, dense.blocks.len());
    format!("{name}: ViT of {width} channels and {depth} blocks on {data}")
}

fn facts(options: &Config, summary: Option<&Value>) -> Vec<(String, String)> {
    let mut facts =
        vec![("seed".into(), options.seed.to_string()), ("device".into(), options.device.clone())];
    if let Some(data) = summary.map(|summary| &summary["dataset"]) {
        facts.push(("training images".into(), data["train"].to_string()));
        facts.push(("test images".into(), data["test"].to_string()));
    }
    facts
}

/// The subnet of the run, once there is one; the dense network is none.
fn last_network(run: &Path) -> Result<Option<VitConfig>, AnyError> {
    let subnet = newest(run).filter(|path| *path != run.join(DENSE));
    subnet.map(|folder| Ok(Description::read(&folder)?.architecture)).transpose()
}

fn latency(run: &Path) -> Result<Vec<once_for_both::subnet::LatencyComparison>, AnyError> {
    let subnet = newest(run).filter(|path| *path != run.join(DENSE));
    subnet.map_or(Ok(Vec::new()), |folder| Ok(Description::<VitConfig>::read(&folder)?.latency))
}

/// The first and the last paintings.
fn paintings(run: &Path, options: &Config) -> Result<Vec<Sample>, AnyError> {
    let Ok(entries) = std::fs::read_dir(run.join(PAINTINGS)) else { return Ok(Vec::new()) };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    let (mean, std) = (options.data.mean.clone(), options.data.std.clone());
    let pixels = Normalisation { mean, std };
    let mut samples = Vec::new();
    for file in files.iter().take(1).chain(files.iter().skip(1).last()) {
        let tensors: BTreeMap<String, Tensor> =
            Tensor::read_safetensors(file)?.into_iter().collect();
        let of = |name: &str| {
            let tensor = tensors.get(name).map(Tensor::shallow_clone);
            tensor.ok_or_else(|| format!("{} lacks {name}", file.display()))
        };
        let painting = Reconstruction {
            images: of("images")?,
            hidden: of("hidden")?,
            painted: of("painted")?,
        };
        let step = file.file_stem().map_or("".into(), |stem| stem.to_string_lossy());
        let step = step.trim_start_matches("step-").trim_start_matches('0');
        samples.extend(Sample::of(&painting, &pixels, |image| {
            format!("test image {image}, step {step}")
        })?);
    }
    Ok(samples)
}

/// Steps after which something is painted: early in the search, and before its decision.
pub fn painting_steps(search_steps: u64) -> Vec<u64> {
    match search_steps {
        0 => Vec::new(),
        steps => vec![(steps / 10).max(1), steps - 1],
    }
}
