//! Headers of safetensors files: names, types and shapes of the tensors, without the tensors.

pub(crate) use safetensors::tensor::{Dtype, Metadata};
use std::io::Read;
use std::path::Path;

/// Size of the leading header length, a little-endian u64.
const LENGTH_BYTES: u64 = 8;
/// Longest header that the format allows.
const LONGEST: u64 = 100_000_000;

/// Why the header of a safetensors file cannot be used.
#[derive(Debug)]
pub(crate) enum HeaderFault {
    /// The operating system failed to read the file.
    Io(std::io::Error),
    /// A damaged header.
    Contents {
        /// Contents that are expected.
        expected: String,
        /// Contents of the file.
        found: String,
    },
    /// A file that is longer or shorter than its tensors.
    Length {
        /// Length of header and tensors.
        expected: u64,
        /// Length of the file.
        actual: u64,
    },
}

/// Returns the header of a file, whose length is that of header and tensors.
pub(crate) fn read_header(path: &Path) -> Result<Metadata, HeaderFault> {
    let mut file = crate::files::open(path).map_err(HeaderFault::Io)?;
    let length = file.metadata().map_err(HeaderFault::Io)?.len();
    let mut start = Vec::new();
    file.by_ref().take(LENGTH_BYTES).read_to_end(&mut start).map_err(HeaderFault::Io)?;
    let announced = announced(&start, length)?;
    let mut header = Vec::new();
    file.take(announced).read_to_end(&mut header).map_err(HeaderFault::Io)?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| HeaderFault::Contents {
            expected: "JSON with name, type, shape and offsets of every tensor".into(),
            found: error.to_string(),
        })?;
    // Deserialising has checked that the tensors fill `data_len` without gaps.
    let expected = (LENGTH_BYTES + announced).saturating_add(metadata.data_len() as u64);
    match length == expected {
        true => Ok(metadata),
        false => Err(HeaderFault::Length { expected, actual: length }),
    }
}

/// Returns the header length given by the first eight bytes of a file of `length` bytes.
fn announced(start: &[u8], length: u64) -> Result<u64, HeaderFault> {
    let refuse = |found: String, expected: String| HeaderFault::Contents { expected, found };
    let Ok(bytes) = <[u8; LENGTH_BYTES as usize]>::try_from(start) else {
        return Err(refuse(format!("{length} bytes"), "8 bytes of header length".into()));
    };
    let most = LONGEST.min(length.saturating_sub(LENGTH_BYTES));
    match u64::from_le_bytes(bytes) {
        announced if announced <= most => Ok(announced),
        announced => {
            Err(refuse(format!("a header of {announced} bytes"), format!("at most {most}")))
        }
    }
}
