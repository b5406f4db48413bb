//! The checksum of a file: a flipped bit in a weight is a valid weight.

use crate::{Error, Result};
use crc32fast::Hasher;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Large enough that reading is what takes the time.
const CHUNK: usize = 1 << 16;

/// CRC-32 of a file, in constant memory.
///
/// # Errors
/// [`Error::Io`] if it cannot be read.
pub(super) fn crc32(path: &Path) -> Result<u32> {
    let io = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(io)?;
    let (mut crc, mut chunk) = (Hasher::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk).map_err(io)? {
            0 => return Ok(crc.finalize()),
            length => crc.update(&chunk[..length]),
        }
    }
}
