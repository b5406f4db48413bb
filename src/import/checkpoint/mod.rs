//! Reader of checkpoint files: names and tensors as they are stored.

#[cfg(feature = "import")]
mod archive;
#[cfg(feature = "import")]
mod ema_keys;
#[cfg(feature = "import")]
mod entry;
mod head;
#[cfg(feature = "import")]
mod pickle;
mod safetensors;
pub(super) mod shards;
#[cfg(feature = "import")]
mod state_dict;

use super::ImportOptions;
use crate::error::CheckpointError;
use crate::tensors::Weights;
use crate::{Error, Result};
use head::Head;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;

/// Limit on axes of a tensor: torch itself supports fewer.
const MAX_RANK: usize = 64;

/// A checkpoint, as read.
#[derive(Debug)]
pub struct Checkpoint {
    /// Tensors, with the names and element types that they have in the file.
    pub weights: Weights,
    /// Where they were found.
    pub source: Source,
}

/// Where the weights of a checkpoint were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Format of the file.
    pub container: Container,
    /// Names of the files that the tensors are in.
    pub files: Vec<String>,
    /// Keys that lead to the state dict, joined by dots, such as `state_dict_ema` or
    /// `model_ema.module`; `None` if the whole file is one.
    pub entry: Option<String>,
    /// Whether `entry` says that the weights are an exponential moving average.
    pub ema: bool,
    /// Other dicts of tensors in the file, which were not taken, except those of optimisers. The
    /// option [`entry`](ImportOptions::entry) chooses one. A list under the key of an EMA, whose
    /// tensors have no names, is listed, too. At most 1,024 of a kind are listed.
    pub other_entries: Vec<String>,
}

/// Format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Container {
    /// A safetensors file.
    Safetensors,
    /// The zip archive of `torch.save`.
    TorchArchive,
    /// Several files, with an index of transformers beside them.
    Shards,
}

/// Returns whether a path is that of a file, or of a folder of transformers with weights: what
/// [`open`] reads, unless it is damaged. A folder for weights that [`open`] refuses by name, such as
/// an adapter of PEFT or weights of TensorFlow alone, is one, too. A folder of this crate is none.
pub fn is_checkpoint(path: &Path) -> bool {
    path.is_file() || shards::holds_weights(path) || shards::holds_other_weights(path)
}

/// Reads all tensors of a checkpoint, with the names and element types that they have there:
/// [`open`] with default options, without the source.
///
/// # Errors
/// Those of [`open`].
pub fn read(path: &Path) -> Result<Weights> {
    Ok(open(path, &ImportOptions::default())?.weights)
}

/// Reads all tensors of a checkpoint, and says where they were found.
///
/// The format is recognised by content: safetensors, or the zip archive of `torch.save` with a
/// state dict (with the Cargo feature `import`), as the whole or under a key. Without the option
/// `entry`, the keys of an EMA are looked for first (`state_dict_ema`, `model_ema`, …), as in timm,
/// then those of raw weights (`state_dict`, `model`, `model_state_dict`, `net`, `module`,
/// `teacher`, …). A folder with `model.safetensors`, or an index of several files
/// (`model.safetensors.index.json`), is read too. No code of the file is executed. Entries beside
/// the state dict (optimiser, arguments) are ignored, whatever Python classes they use.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened; [`Error::Checkpoint`] if it has another format, is
/// damaged, or its state dict holds anything but tensors; [`Error::Invalid`] if `entry` is given for
/// a file that has no entries.
pub fn open(path: &Path, options: &ImportOptions) -> Result<Checkpoint> {
    let metadata = std::fs::metadata(path).map_err(|source| Error::io("read", path, source))?;
    let wanted = options.entry.as_deref();
    let read = if metadata.is_dir() {
        shards::read_folder(path, wanted)
    } else if metadata.is_file() {
        let file = File::open(path).map_err(|source| Error::io("read", path, source))?;
        read_file(path, file, wanted)
    } else {
        Err(head::NO_FILE)
    };
    read.map_err(|source| Error::Checkpoint { path: path.into(), source: Box::new(source) })
}

fn read_file(
    path: &Path,
    mut file: File,
    wanted: Option<&str>,
) -> Result<Checkpoint, CheckpointError> {
    let (head, length) = Head::read(&mut file)?;
    match (head, wanted) {
        (Head::Zip, wanted) => read_archive(path, file, wanted),
        (_, Some(entry)) => Err(CheckpointError::EntryUnused { entry: entry.into() }),
        (Head::Safetensors, None) => {
            let weights = safetensors::read(file, length)?;
            Ok(Checkpoint { weights, source: Source::whole(Container::Safetensors, path) })
        }
        (Head::Json, None) => shards::read_index(path, file),
    }
}

#[cfg(feature = "import")]
fn read_archive(
    path: &Path,
    file: File,
    wanted: Option<&str>,
) -> Result<Checkpoint, CheckpointError> {
    state_dict::read(path, file, wanted)
}

#[cfg(not(feature = "import"))]
fn read_archive(_: &Path, _: File, _: Option<&str>) -> Result<Checkpoint, CheckpointError> {
    Err(CheckpointError::FeatureMissing)
}

impl Source {
    /// A single file that is one state dict.
    fn whole(container: Container, path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { container, files: vec![name], entry: None, ema: false, other_entries: vec![] }
    }
}
