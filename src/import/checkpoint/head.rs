//! The format of a file, by its first bytes.

use super::safetensors;
use crate::error::CheckpointError;
use std::fs::File;
use std::io::{Read, Seek};

const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// First byte of a pickle of protocol 2 or later.
const PICKLE_MAGIC: u8 = 0x80;
/// First line of the file that Git LFS puts in the place of a large one.
const LFS_MAGIC: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Bytes that are looked at.
const LENGTH: u64 = 64;
/// Bytes of a message.
const SHOWN: usize = 8;

/// A format that is read.
#[derive(Debug)]
pub(super) enum Head {
    Safetensors,
    /// The zip archive of `torch.save`, or another.
    Zip,
    /// An index of several files, or another JSON document.
    Json,
}

/// Error for what is neither a file nor a folder, such as a pipe.
pub(super) const NO_FILE: CheckpointError = CheckpointError::NotWeights {
    found: "a device or a pipe",
    advice: "give the path of the file with the weights",
};

impl Head {
    /// Returns the format of a file, and its length in bytes; the file is at its start again.
    pub(super) fn read(file: &mut File) -> Result<(Self, u64), CheckpointError> {
        let length = file.metadata()?.len();
        let mut head = Vec::new();
        file.by_ref().take(LENGTH).read_to_end(&mut head)?;
        file.rewind()?;
        Ok((Self::of(&head, length)?, length))
    }

    fn of(head: &[u8], length: u64) -> Result<Self, CheckpointError> {
        if head.starts_with(ZIP_MAGIC) {
            return Ok(Self::Zip);
        }
        let start = head.get(..9).unwrap_or_default();
        if safetensors::begins(start, length) {
            return Ok(Self::Safetensors);
        }
        // Before the mark of a pickle, which may be the first byte of a length.
        if let Some(cut) = safetensors::cut_header(start, length) {
            return Err(cut);
        }
        if head.starts_with(LFS_MAGIC) {
            return Err(CheckpointError::NotWeights {
                found: "the pointer of Git LFS in the place of the file",
                advice: "fetch the file: git lfs pull",
            });
        }
        if head.first() == Some(&PICKLE_MAGIC) {
            return Err(CheckpointError::Legacy);
        }
        if is_json(head) {
            return Ok(Self::Json);
        }
        Err(CheckpointError::Unrecognised { found: head.iter().take(SHOWN).copied().collect() })
    }
}

/// Whether a file begins as a JSON object with a key.
fn is_json(head: &[u8]) -> bool {
    let mut text = head.iter().filter(|byte| !byte.is_ascii_whitespace());
    text.next() == Some(&b'{') && text.next() == Some(&b'"')
}
