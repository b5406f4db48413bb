//! What the library makes of a path: a run folder, an artifact, a checkpoint, a latency model, images.

mod files;
mod folders;
mod latency;
mod network;
mod text;

pub use folders::{
    ArtifactInspection, CheckpointInspection, Finding, PathInspection, RunInspection,
};
pub use latency::LatencyInspection;

use crate::data::shards::is_shard_pattern;
use crate::data::{has_image_extension, inspect_images, packed_shard};
use crate::data::{ImageInspection, DEFAULT_MAX_PIXELS};
use crate::import::{self, inspect_file, ImportOptions};
use crate::latency::LatencyModel;
use crate::models::{Architecture, VitConfig};
use crate::{Error, Result};
use serde::Serialize;
use std::io::Read;
use std::path::Path;

/// First bytes of image files: JPEG, PNG, IDX, and gzip, in which IDX files come.
const IMAGE_MARKS: [&[u8]; 4] = [&[0xff, 0xd8], b"\x89PNG", &[0, 0, 8], &[0x1f, 0x8b]];

/// First bytes of what `torch.save` writes: zip archives and pickles.
const CHECKPOINT_MARKS: [&[u8]; 2] = [b"PK", &[0x80]];

/// How a path is read.
#[derive(Debug, Clone)]
pub struct InspectOptions {
    /// Options of the import of a checkpoint.
    pub import: ImportOptions,
    /// Heads of a ViT in a checkpoint; `None` for those that [`import::inspect`](crate::import::inspect()) assumes.
    pub heads: Option<i64>,
    /// Most pixels of an image. Default 64 million.
    pub max_pixels: usize,
}

impl Default for InspectOptions {
    fn default() -> Self {
        Self { import: ImportOptions::default(), heads: None, max_pixels: DEFAULT_MAX_PIXELS }
    }
}

/// What a path is, and what the library makes of it.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Inspection {
    /// Folder of a run, of a pipeline or of [`Search::run_in`](crate::search::Search::run_in).
    Run(RunInspection),
    /// Artifact: a network of this crate.
    Artifact(Box<ArtifactInspection>),
    /// Checkpoint of a search.
    SearchCheckpoint(CheckpointInspection),
    /// Weights of another program, or exported by this crate.
    Weights(Box<import::Inspection>),
    /// Latency model.
    Latency(Box<LatencyInspection>),
    /// Images, as one file or a data folder.
    Images(ImageInspection),
}

impl Inspection {
    /// Returns whether the library takes everything that is there.
    pub fn is_accepted(&self) -> bool {
        match self {
            Self::Run(run) => run.is_accepted(),
            Self::Images(images) => images.is_accepted(),
            Self::Artifact(_) | Self::SearchCheckpoint(_) | Self::Weights(_) | Self::Latency(_) => {
                true
            }
        }
    }
}

/// Reads what is at `path` as the library reads it, and returns what was found.
///
/// An artifact is loaded, a checkpoint of a search resumed, weights imported, every image decoded,
/// all on the CPU; nothing is written. Weights may be given by their name on the hub
/// ([`hub::local`](crate::import::hub::local)). Networks are of the families of this crate;
/// [`inspect_family`] reads those of one more.
///
/// # Errors
/// Why the library refuses an artifact, checkpoint or weights at `path`;
/// [`PipelineError::UnknownFamily`](crate::error::PipelineError::UnknownFamily) for an artifact or
/// checkpoint of another family; [`Error::Io`] if nothing is
/// there; [`Error::Hub`] for a name whose files cannot be fetched. Faults within a run or a data
/// folder are listed in the result.
pub fn inspect(path: &Path, options: &InspectOptions) -> Result<Inspection> {
    inspect_family::<VitConfig>(path, options)
}

/// [`inspect`], which reads artifacts and checkpoints of an architecture of your own, too
/// (docs/wrapping.md).
///
/// # Errors
/// Those of [`inspect`].
pub fn inspect_family<A: Architecture>(
    path: &Path,
    options: &InspectOptions,
) -> Result<Inspection> {
    let path = &import::hub::local(path)?;
    // Shards of a pattern, at which there is no file.
    if is_shard_pattern(path) && !path.exists() {
        return inspect_images(path, options.max_pixels).map(Inspection::Images);
    }
    let about = path.metadata().map_err(|source| Error::io("read", path, source))?;
    if about.is_dir() {
        if let Some(own) = folders::inspect_own::<A>(path)? {
            return Ok(own);
        }
    }
    if about.is_file() && LatencyModel::is_at(path) {
        return latency::inspect(path).map(Box::new).map(Inspection::Latency);
    }
    let weights = match about.is_dir() {
        true => import::is_checkpoint(path),
        false => !about.is_file() || !is_image(path)?,
    };
    if weights {
        let found = inspect_file(path, &options.import, options.heads)?;
        return Ok(Inspection::Weights(Box::new(found)));
    }
    inspect_images(path, options.max_pixels).map(Inspection::Images)
}

/// Returns whether a file is to be read as images: by its first bytes, or by its name.
fn is_image(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| file.take(8).read_to_end(&mut start));
    read.map_err(|source| Error::io("read", path, source))?;
    let named = path.file_name().is_some_and(has_image_extension) || packed_shard(path).is_some();
    // Checkpoints have such names, too: model.pth.tar.
    let checkpoint = CHECKPOINT_MARKS.iter().any(|mark| start.starts_with(mark));
    let shard = is_shard_pattern(path) && !checkpoint;
    Ok(named || shard || IMAGE_MARKS.iter().any(|mark| start.starts_with(mark)))
}
