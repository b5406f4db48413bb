//! The IDX format of MNIST and Fashion-MNIST, plain or gzip-compressed.
//!
//! An IDX file is a header and then the values, the last dimension running fastest:
//!
//! | bytes      | content                                                    |
//! | ---------- | ---------------------------------------------------------- |
//! | 2          | zero                                                       |
//! | 1          | element type, here always `0x08` for unsigned byte         |
//! | 1          | rank: the number of dimensions                             |
//! | 4 per rank | size of each dimension, big-endian unsigned                |
//! | the rest   | the values, as many as the product of the sizes            |
//!
//! Untrusted files are safe to read: before memory is reserved, the header's claim is checked against
//! the length of the file (for a gzip-compressed one, against the largest compression ratio), and a
//! file with too few or too many values is an error.

mod error;
mod images;

pub use error::IdxError;
pub use images::{IdxImages, Split};

use super::MAX_BYTES_PER_PACKED_BYTE;
use flate2::read::MultiGzDecoder;
use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Element type code of unsigned bytes, the type of image data sets.
const UNSIGNED_BYTE: u8 = 0x08;
/// First two bytes of every gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Name of an IDX element type, or `None` for a code that the format does not define.
fn known_type(code: u8) -> Option<&'static str> {
    match code {
        UNSIGNED_BYTE => Some("unsigned byte"),
        0x09 => Some("signed byte"),
        0x0b => Some("16-bit integer"),
        0x0c => Some("32-bit integer"),
        0x0d => Some("32-bit float"),
        0x0e => Some("64-bit float"),
        _ => None,
    }
}

/// Name of an IDX element type for error messages.
fn type_name(code: u8) -> &'static str {
    known_type(code).unwrap_or("unknown")
}

/// Array of unsigned bytes, the content of an IDX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxArray {
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// Values in row-major order; their number is the product of `shape`.
    pub values: Vec<u8>,
}

/// Returns the array of an IDX file of unsigned bytes, plain or gzip-compressed.
///
/// Compression is recognised by the first two bytes of the file, not by its name.
///
/// # Errors
/// [`IdxError`] if the file cannot be read or decompressed, is not an IDX file, has another element
/// type, or has more or fewer values than its header says.
pub fn read_idx(path: &Path) -> Result<IdxArray, IdxError> {
    let mut content = Content::open(path)?;
    let shape = content.read_shape()?;
    let expected = content.count_of(&shape)?;
    let values = content.read_up_to(expected + 1, content.known(expected))?;
    content.check_count(&shape, expected, values.len() as u64)?;
    Ok(IdxArray { shape, values })
}

/// Decompressed content of an open file.
struct Content {
    path: PathBuf,
    reader: Box<dyn Read>,
    packed: bool,
    /// Length of the file; `None` for what is not a regular file.
    length: Option<u64>,
    /// Number of bytes read, after decompression.
    taken: u64,
}

impl Content {
    fn open(path: &Path) -> Result<Self, IdxError> {
        let open_error = |source| IdxError::Open { path: path.into(), source };
        let mut file = File::open(path).map_err(open_error)?;
        let about = file.metadata().map_err(open_error)?;
        let length = about.is_file().then_some(about.len());
        let mut start = Vec::new();
        (&mut file)
            .take(GZIP_MAGIC.len() as u64)
            .read_to_end(&mut start)
            .map_err(|source| IdxError::Read { path: path.into(), source })?;
        let packed = start == GZIP_MAGIC;
        let whole = io::Cursor::new(start).chain(file);
        let reader: Box<dyn Read> =
            if packed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
        Ok(Self { path: path.into(), reader, packed, length, taken: 0 })
    }

    /// Reads at most `most` bytes, into a buffer of `reserved` bytes that grows while reading.
    fn read_up_to(&mut self, most: u64, reserved: usize) -> Result<Vec<u8>, IdxError> {
        let mut bytes = Vec::new();
        let reserve = bytes.try_reserve_exact(reserved);
        reserve.map_err(|_| self.read_error(io::ErrorKind::OutOfMemory.into()))?;
        match self.reader.by_ref().take(most).read_to_end(&mut bytes) {
            Ok(count) => {
                self.taken += count as u64;
                Ok(bytes)
            }
            Err(source) => Err(self.read_error(source)),
        }
    }

    fn read_error(&self, source: io::Error) -> IdxError {
        let path = self.path.clone();
        let from_system =
            source.raw_os_error().is_some() || source.kind() == io::ErrorKind::OutOfMemory;
        if self.packed && !from_system {
            IdxError::Gzip { path, source }
        } else {
            IdxError::Read { path, source }
        }
    }

    fn read_shape(&mut self) -> Result<Vec<usize>, IdxError> {
        let magic = self.read_up_to(4, 4)?;
        let path = self.path.clone();
        let &[0, 0, element, rank] = magic.as_slice() else {
            return Err(IdxError::NotIdx { path, found: magic });
        };
        if known_type(element).is_none() {
            return Err(IdxError::NotIdx { path, found: magic });
        }
        if element != UNSIGNED_BYTE {
            return Err(IdxError::ElementType { path, expected: UNSIGNED_BYTE, found: element });
        }
        let expected = 4 * usize::from(rank);
        let sizes = self.read_up_to(expected as u64, expected)?;
        if sizes.len() < expected {
            return Err(IdxError::TruncatedHeader { path, expected, found: sizes.len() });
        }
        let size = |four: &[u8]| four.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        Ok(sizes.chunks_exact(4).map(size).collect())
    }

    /// Number of values of a shape; an error if a file of this length cannot hold them.
    fn count_of(&self, shape: &[usize]) -> Result<u64, IdxError> {
        let limit = self.limit();
        let product = |count: u64, &size: &usize| count.checked_mul(size as u64);
        let count = shape.iter().try_fold(1, product).filter(|&count| count <= limit);
        let count = count.ok_or_else(|| IdxError::ImpossibleShape {
            path: self.path.clone(),
            shape: shape.to_vec(),
            limit,
        })?;
        if let (false, Some(length)) = (self.packed, self.length) {
            // Before any value is read.
            self.check_count(shape, count, length.saturating_sub(self.taken))?;
        }
        Ok(count)
    }

    /// Largest number of values that are worth unpacking: those of the largest compression ratio.
    fn limit(&self) -> u64 {
        let packed = self.length.filter(|_| self.packed);
        let unpacked = packed.map(|length| length.saturating_mul(MAX_BYTES_PER_PACKED_BYTE));
        unpacked.unwrap_or(u64::MAX).min(isize::MAX as u64)
    }

    /// Bytes to reserve for the values: their number where the length of the file has confirmed it.
    fn known(&self, expected: u64) -> usize {
        let confirmed = !self.packed && self.length.is_some();
        // One more, so that reading finds the end without growing the buffer.
        if confirmed {
            usize::try_from(expected + 1).unwrap_or(0)
        } else {
            0
        }
    }

    fn check_count(&self, shape: &[usize], expected: u64, found: u64) -> Result<(), IdxError> {
        let (path, shape) = (self.path.clone(), shape.to_vec());
        match found.cmp(&expected) {
            Ordering::Less => Err(IdxError::Truncated { path, shape, expected, found }),
            Ordering::Greater => Err(IdxError::TrailingBytes { path, shape, expected }),
            Ordering::Equal => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
