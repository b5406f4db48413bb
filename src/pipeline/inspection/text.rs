//! An inspection as text for a terminal.

use super::folders::sizes_in_channels;
use super::network;
use super::{ArtifactInspection, CheckpointInspection, Finding, Inspection, RunInspection};
use crate::data::{ImageInspection, ImageSource, InspectedSet};
use crate::import::{Container, ImportReport, KnownNetwork, Naming};
use crate::models::{Architecture, SwinConfig, VitConfig};
use crate::space::Sizes;
use serde_json::Value;
use std::fmt::{self, Display, Formatter};

/// Most names or faults that are written out; a count stands for the others.
const MOST: usize = 20;

impl Display for Inspection {
    fn fmt(&self, out: &mut Formatter) -> fmt::Result {
        match self {
            Self::Run(run) => write_run(out, run),
            Self::Artifact(artifact) => {
                line(out, "kind", "artifact")?;
                write_artifact(out, artifact)
            }
            Self::SearchCheckpoint(checkpoint) => {
                line(out, "kind", "checkpoint of a search")?;
                write_checkpoint(out, checkpoint)
            }
            Self::Weights(found) => {
                line(out, "kind", "weights")?;
                write_weights(out, found)
            }
            Self::Latency(latency) => {
                line(out, "kind", "latency model")?;
                write!(out, "{latency}")
            }
            Self::Images(images) => write_images(out, images),
        }
    }
}

fn line(out: &mut Formatter, name: &str, value: impl Display) -> fmt::Result {
    writeln!(out, "{name:<14}{value}")
}

fn write_run(out: &mut Formatter, run: &RunInspection) -> fmt::Result {
    line(out, "kind", "run folder")?;
    line(out, "in use", run.in_use.as_deref().unwrap_or("no"))?;
    if let Some(config) = &run.config {
        match &config.found {
            Finding::Accepted(_) => line(out, "options", &config.path)?,
            Finding::Refused(reason) => refused(out, &config.path, reason)?,
        }
    }
    for file in &run.files {
        match &file.found {
            Finding::Accepted(()) => line(out, "file", &file.path)?,
            Finding::Refused(reason) => refused(out, &file.path, reason)?,
        }
    }
    for network in &run.networks {
        match &network.found {
            Finding::Accepted(artifact) => {
                line(out, "network", &network.path)?;
                write_artifact(out, artifact)?;
            }
            Finding::Refused(reason) => refused(out, &network.path, reason)?,
        }
    }
    for checkpoint in &run.checkpoints {
        match &checkpoint.found {
            Finding::Accepted(found) => {
                let steps = format!("{} of {} steps", found.step, found.total_steps);
                line(out, "checkpoint", format!("{}: {steps}", checkpoint.path))?;
            }
            Finding::Refused(reason) => refused(out, &checkpoint.path, reason)?,
        }
    }
    let Some(latency) = &run.latency else { return Ok(()) };
    match &latency.found {
        Finding::Accepted(found) => {
            line(out, "latency", &latency.path)?;
            write!(out, "{found}")
        }
        Finding::Refused(reason) => refused(out, &latency.path, reason),
    }
}

fn refused(out: &mut Formatter, path: &str, reason: &str) -> fmt::Result {
    line(out, "REFUSED", format!("{path}: {reason}"))
}

fn write_artifact(out: &mut Formatter, artifact: &ArtifactInspection) -> fmt::Result {
    line(out, "family", &artifact.family)?;
    line(out, "sizes", in_words(&artifact.sizes))?;
    write_network(out, &artifact.family, &artifact.network)?;
    line(out, "precision", artifact.precision.name())?;
    line(out, "MACs", format!("{:.2} M", artifact.macs / 1e6))?;
    line(out, "parameters", format!("{:.3} M", artifact.params / 1e6))?;
    let checksums = match artifact.all_files_have_checksums {
        true => "right",
        false => {
            "right for the weights; config.json has none (version 1): its sizes are not covered"
        }
    };
    line(out, "checksums", checksums)?;
    let exports = match artifact.exports.is_empty() {
        true => "none".into(),
        false => artifact.exports.join(", "),
    };
    line(out, "exports", exports)
}

/// Input, and options that are not those of a plain network of the family; of a family that is not this crate's, its
/// configuration as it is stored.
fn write_network(out: &mut Formatter, family: &str, config: &Value) -> fmt::Result {
    if ![VitConfig::FAMILY, SwinConfig::FAMILY].contains(&family) {
        return line(out, "configuration", config);
    }
    line(out, "input", network::input(config))?;
    network::options(config).iter().try_for_each(|option| line(out, "option", option))
}

fn write_checkpoint(out: &mut Formatter, found: &CheckpointInspection) -> fmt::Result {
    line(out, "family", &found.family)?;
    line(out, "steps", format!("{} of {}", found.step, found.total_steps))?;
    line(out, "sizes", in_words(&found.sizes))?;
    line(out, "undecided", found.undecided)?;
    line(out, "checksums", "right")
}

fn write_weights(out: &mut Formatter, found: &crate::import::Inspection) -> fmt::Result {
    let report = &found.report;
    write_source(out, report)?;
    line(out, "naming", naming(report.naming))?;
    let prefix = if report.prefix.is_empty() { "none" } else { &report.prefix };
    line(out, "prefix", prefix)?;
    let (family, space, sizes, network) = match &found.network {
        KnownNetwork::Vit(vit) => {
            ("vit", vit.space(), vit.cost_model().dense, serde_json::to_value(vit))
        }
        KnownNetwork::Swin(swin) => {
            ("swin", swin.space(), swin.cost_model().dense, serde_json::to_value(swin))
        }
    };
    // A network whose search space cannot be built has no pairs to count.
    let sizes = match space {
        Ok(space) => sizes_in_channels(&space, sizes),
        Err(_) => sizes,
    };
    line(out, "family", family)?;
    line(out, "sizes", in_words(&sizes))?;
    write_network(out, family, &network.unwrap_or_default())?;
    let types = found.types.iter().map(|(kind, count)| format!("{count} {kind}"));
    line(out, "tensors", types.collect::<Vec<_>>().join(", "))?;
    line(out, "elements", found.elements)?;
    for assumed in &report.assumed {
        let source = assumed.source.as_ref().map(|own| format!(" (from {own})"));
        let source = source.unwrap_or_default();
        line(out, "assumed", format!("{} = {}{source}", assumed.property, assumed.value))?;
    }
    for (fate, names) in [
        ("left out", &report.skipped),
        ("not used", &report.unused),
        ("initialised", &report.missing),
    ] {
        names.iter().take(MOST).try_for_each(|name| line(out, fate, name))?;
        more(out, fate, names.len())?;
    }
    Ok(())
}

fn write_source(out: &mut Formatter, report: &ImportReport) -> fmt::Result {
    let Some(source) = &report.source else { return Ok(()) };
    let container = match source.container {
        Container::Safetensors => "safetensors",
        Container::TorchArchive => "zip archive of torch.save",
        Container::Shards => "several files with an index",
    };
    line(out, "format", container)?;
    let entry = source.entry.as_deref().unwrap_or("the whole file");
    line(out, "entry", format!("{entry} ({})", if source.ema { "EMA" } else { "raw weights" }))?;
    if !source.other_entries.is_empty() {
        line(out, "not taken", source.other_entries.join(", "))?;
    }
    Ok(())
}

fn naming(naming: Naming) -> &'static str {
    match naming {
        Naming::Timm => "timm",
        Naming::Transformers => "transformers",
        Naming::OriginalSwin => "Swin Transformer (Microsoft)",
        Naming::Dinov3 => "transformers, DINOv3",
        Naming::Clip => "transformers, CLIP",
        Naming::OpenClip => "OpenAI's CLIP",
        Naming::Other => "of its own",
    }
}

fn write_images(out: &mut Formatter, images: &ImageInspection) -> fmt::Result {
    let source = match images.source {
        ImageSource::ImageFile => "image",
        ImageSource::IdxFile => "IDX file",
        ImageSource::ClassFolders => "folder of classes",
        ImageSource::TrainAndVal => "data folder with train/ and val/",
        ImageSource::IdxFiles => "data folder of IDX files",
        ImageSource::TarShards => "tar shards (WebDataset)",
    };
    line(out, "kind", source)?;
    images.sets.iter().try_for_each(|set| write_set(out, set))
}

fn write_set(out: &mut Formatter, set: &InspectedSet) -> fmt::Result {
    if !set.name.is_empty() {
        line(out, "set", &set.name)?;
    }
    line(out, "images", set.images)?;
    line(out, "channels", set.channels)?;
    line(out, "classes", set.classes.len())?;
    for size in set.sizes.iter().take(MOST) {
        line(out, "size", format!("{} × {}: {}", size.width, size.height, size.images))?;
    }
    more(out, "size", set.sizes.len())?;
    set.faults.iter().try_for_each(|fault| refused(out, &fault.path, &fault.reason))
}

/// Writes how many of `count` lines were left out after [`MOST`].
fn more(out: &mut Formatter, name: &str, count: usize) -> fmt::Result {
    match count.checked_sub(MOST) {
        None | Some(0) => Ok(()),
        Some(more) => line(out, name, format!("and {more} more")),
    }
}

/// Names and sizes of all dimensions.
fn in_words(sizes: &Sizes) -> String {
    let sizes = sizes.iter().map(|(name, size)| format!("{name} {size}"));
    sizes.collect::<Vec<_>>().join(", ")
}
