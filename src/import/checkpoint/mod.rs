//! Reader of checkpoint files: names and tensors as they are stored.

#[cfg(feature = "import")]
mod archive;
#[cfg(feature = "import")]
mod pickle;
#[cfg(feature = "import")]
mod state_dict;

use crate::error::CheckpointError;
use crate::tensors::Weights;
use crate::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use tch::Tensor;

const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// First byte of a pickle of protocol 2 or later.
const PICKLE_MAGIC: u8 = 0x80;

/// Reads all tensors of a checkpoint, with the names and element types that they have there.
///
/// The format is recognised by content: safetensors, or the zip archive of `torch.save` with a
/// state dict (with the Cargo feature `import`), either as the whole or under the key `model` or
/// `state_dict`. No code of the file is executed. Entries beside the state dict (optimiser,
/// arguments) are ignored, whatever Python classes they use.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened; [`Error::Checkpoint`] if it has another format, is
/// damaged, or its state dict holds anything but tensors.
pub fn read(path: &Path) -> Result<Weights> {
    let file = File::open(path).map_err(|source| Error::io("read", path, source))?;
    read_file(path, file)
        .map_err(|source| Error::Checkpoint { path: path.into(), source: Box::new(source) })
}

fn read_file(path: &Path, mut file: File) -> Result<Weights, CheckpointError> {
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    file.by_ref().take(9).read_to_end(&mut head)?;
    file.rewind()?;
    match &head[..] {
        #[cfg(feature = "import")]
        head if head.starts_with(ZIP_MAGIC) => state_dict::read(file),
        #[cfg(not(feature = "import"))]
        head if head.starts_with(ZIP_MAGIC) => Err(CheckpointError::FeatureMissing),
        [header @ .., b'{'] if header.len() == 8 && fits(header, length) => {
            let tensors = Tensor::read_safetensors(path)
                .map_err(|source| CheckpointError::Safetensors { source })?;
            Ok(tensors.into_iter().collect())
        }
        [PICKLE_MAGIC, ..] => Err(CheckpointError::Legacy),
        _ => {
            head.truncate(8);
            Err(CheckpointError::Unrecognised { found: head })
        }
    }
}

/// Returns whether a safetensors header of the announced length fits into the file.
fn fits(header: &[u8], length: u64) -> bool {
    let announced = header.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
    announced <= length.saturating_sub(8)
}
