//! Folders of this crate: runs, artifacts, checkpoints of a search.

use super::latency::{self, LatencyInspection};
use super::{files, Inspection};
use crate::checksums::CHECKSUMS;
use crate::error::in_words;
use crate::files::{FolderKind, Owner};
use crate::import;
use crate::models::{Architecture, SwinConfig, VitConfig};
use crate::pipeline::families::KnownFamily;
use crate::pipeline::{Config, RunFolder};
use crate::search::{Search, CHECKPOINT};
use crate::space::{SearchSpace, Sizes};
use crate::subnet::{Description, Precision, Provenance, Subnet, ARTIFACT, EXPORTS};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use tch::Device;

/// What to do about a network of a family that is not known.
pub(super) const ADVICE: &str = "inspect it with its Architecture, by pipeline::inspect_family";

/// An artifact that was loaded.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct ArtifactInspection {
    /// Family of the network, such as `vit`.
    pub family: String,
    /// Configuration of the network.
    pub network: Value,
    /// Size of every dimension, in channels ([`Dimension::in_channels`](crate::space::Dimension::in_channels)).
    pub sizes: Sizes,
    /// Type of the stored weights.
    pub precision: Precision,
    /// MACs of one image.
    pub macs: f64,
    /// Number of parameters.
    pub params: f64,
    /// Search that it was extracted from.
    pub provenance: Provenance,
    /// Whether every file has a checksum. In an artifact of version 1 only the weights have one: a
    /// changed size or `norm_eps` in its `config.json` is not found.
    pub all_files_have_checksums: bool,
    /// Files for other programs beside the weights.
    pub exports: Vec<String>,
}

/// A checkpoint that a search was resumed from.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct CheckpointInspection {
    /// Family of the network, such as `vit`.
    pub family: String,
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps in all.
    pub total_steps: u64,
    /// Present size of every dimension, in channels.
    pub sizes: Sizes,
    /// Number of dimensions that are not decided yet.
    pub undecided: usize,
}

/// A file or folder of a run: what was found in it, or why it is refused.
#[derive(Debug, Serialize)]
pub struct PathInspection<T> {
    /// Path within the run folder.
    pub path: String,
    /// The result.
    #[serde(flatten)]
    pub found: Finding<T>,
}

/// Result of reading a part of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding<T> {
    /// The library takes it.
    Accepted(T),
    /// The library refuses it, with this error and its causes.
    Refused(String),
}

/// A run folder.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct RunInspection {
    /// Process that owns the folder, if there is one, in words.
    pub in_use: Option<String>,
    /// Options, `config.toml`; `None` in a folder of a search without a pipeline.
    pub config: Option<PathInspection<Value>>,
    /// Fingerprint of the images, results, sensitivity; of every stage plan, events and corrupt images; as far as they are
    /// there.
    pub files: Vec<PathInspection<()>>,
    /// Networks: the dense one, the subnet, the fine-tuned subnet, the reference of the comparison.
    pub networks: Vec<PathInspection<ArtifactInspection>>,
    /// Checkpoints of every stage.
    pub checkpoints: Vec<PathInspection<CheckpointInspection>>,
    /// Latency model, where one was measured or given.
    pub latency: Option<PathInspection<Box<LatencyInspection>>>,
}

impl RunInspection {
    /// Returns whether the library takes every part of the run. A folder in use is taken.
    pub fn is_accepted(&self) -> bool {
        fn taken<T>(part: &PathInspection<T>) -> bool {
            matches!(part.found, Finding::Accepted(_))
        }
        self.config.iter().all(taken)
            && self.files.iter().all(taken)
            && self.networks.iter().all(taken)
            && self.checkpoints.iter().all(taken)
            && self.latency.iter().all(taken)
    }
}

/// Inspects a folder of this crate, with networks of ViT, Swin or `A`; `None` for any other folder.
pub(super) fn inspect_own<A: Architecture>(folder: &Path) -> Result<Option<Inspection>> {
    if is_kind(folder, &CHECKPOINT) {
        return checkpoint::<A>(folder).map(Inspection::SearchCheckpoint).map(Some);
    }
    if is_kind(folder, &ARTIFACT) {
        return artifact::<A>(folder).map(Box::new).map(Inspection::Artifact).map(Some);
    }
    let run = RunFolder::new(folder);
    let checkpoints = run.checkpoints()?;
    if checkpoints.is_empty() && !run.config().is_file() {
        return Ok(None);
    }
    let networks = [run.dense(), run.subnet(), run.finetuned(), run.reference()];
    let networks = networks.iter().filter(|path| path.is_dir());
    let latency = run.latency();
    let config = run.config().is_file().then(|| part(folder, &run.config(), config(&run)));
    Ok(Some(Inspection::Run(RunInspection {
        in_use: Owner::expect_free(folder).err().map(|error| error.to_string()),
        config,
        files: files::inspect::<A>(&run),
        networks: networks.map(|path| part(folder, path, artifact::<A>(path))).collect(),
        checkpoints: checkpoints
            .iter()
            .map(|path| part(folder, path, checkpoint::<A>(path)))
            .collect(),
        latency: latency
            .is_file()
            .then(|| part(folder, &latency, latency::inspect(&latency).map(Box::new))),
    })))
}

/// Returns whether a folder is of this kind, perhaps damaged.
fn is_kind(folder: &Path, kind: &FolderKind) -> bool {
    let damaged = || folder.join(kind.mark.0).is_file() && !import::is_checkpoint(folder);
    kind.is_own(folder) || kind.lost_mark(folder) || damaged()
}

fn config(run: &RunFolder) -> Result<Value> {
    let config = Config::read(&run.config())?;
    serde_json::to_value(config).map_err(|error| Error::file(run.config(), error))
}

pub(super) fn part<T>(folder: &Path, path: &Path, found: Result<T>) -> PathInspection<T> {
    let within = path.strip_prefix(folder).unwrap_or(path);
    let found = found.map_or_else(|error| Finding::Refused(in_words(&error)), Finding::Accepted);
    PathInspection { path: within.display().to_string(), found }
}

/// Loads the artifact in a folder.
fn artifact<A: Architecture>(folder: &Path) -> Result<ArtifactInspection> {
    match KnownFamily::of::<A>(&folder.join(ARTIFACT.mark.0), ADVICE)? {
        KnownFamily::Own => artifact_of::<A>(folder),
        KnownFamily::Vit => artifact_of::<VitConfig>(folder),
        KnownFamily::Swin => artifact_of::<SwinConfig>(folder),
    }
}

fn artifact_of<A: Architecture>(folder: &Path) -> Result<ArtifactInspection> {
    let (subnet, description) = Subnet::<A>::load_described(folder, Device::Cpu, |stored| stored)?;
    let Description { precision, macs, params, provenance, .. } = description;
    let network = subnet.architecture();
    Ok(ArtifactInspection {
        family: A::FAMILY.into(),
        sizes: sizes_in_channels(&network.space()?, network.cost_model().dense),
        network: serde_json::to_value(network).map_err(|error| Error::file(folder, error))?,
        precision,
        macs,
        params,
        provenance,
        all_files_have_checksums: folder.join(CHECKSUMS).is_file(),
        exports: EXPORTS
            .map(String::from)
            .into_iter()
            .filter(|f| folder.join(f).is_file())
            .collect(),
    })
}

/// Returns sizes in channels instead of units.
pub(super) fn sizes_in_channels(space: &SearchSpace, mut sizes: Sizes) -> Sizes {
    for own in &space.dimensions {
        if let Some(size) = sizes.get_mut(&own.name) {
            *size = own.in_channels(*size);
        }
    }
    sizes
}

/// Resumes the search of a checkpoint.
fn checkpoint<A: Architecture>(folder: &Path) -> Result<CheckpointInspection> {
    match KnownFamily::of::<A>(&folder.join(CHECKPOINT.mark.0), ADVICE)? {
        KnownFamily::Own => checkpoint_of::<A>(folder),
        KnownFamily::Vit => checkpoint_of::<VitConfig>(folder),
        KnownFamily::Swin => checkpoint_of::<SwinConfig>(folder),
    }
}

fn checkpoint_of<A: Architecture>(folder: &Path) -> Result<CheckpointInspection> {
    let search = Search::<A>::resume_to_inspect(folder, Device::Cpu)?;
    let states = search.supernet().states().iter();
    Ok(CheckpointInspection {
        family: A::FAMILY.into(),
        step: search.steps_done(),
        total_steps: search.options().total_steps,
        sizes: sizes_in_channels(search.supernet().space(), search.supernet().sizes()),
        undecided: states.filter(|state| state.active.decided().is_none()).count(),
    })
}
