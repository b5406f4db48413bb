//! The header of `model.safetensors`, checked against the variables of a network.

use super::refused;
use crate::error::ArtifactError;
use crate::models::Shapes;
use crate::subnet::Precision;
use crate::{Error, Result};
use safetensors::tensor::Metadata;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Size of the leading header length, a little-endian u64.
const LENGTH_BYTES: u64 = 8;
/// Longest header that the format allows.
const LONGEST: u64 = 100_000_000;

/// Checks that a file holds exactly the variables of these shapes, all in `precision`. Reads the
/// header only.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Artifact`] if its contents differ.
pub(super) fn check(path: &Path, shapes: &Shapes, precision: Precision) -> Result<()> {
    let io = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut start = Vec::new();
    file.by_ref().take(LENGTH_BYTES).read_to_end(&mut start).map_err(io)?;
    let announced = announced(&start, length).map_err(|source| refused(path, source))?;
    let mut header = Vec::new();
    file.take(announced).read_to_end(&mut header).map_err(io)?;
    parse(&header)
        .and_then(|metadata| {
            // Deserialising has checked that the tensors fill `data_len` without gaps.
            let expected = LENGTH_BYTES + announced + metadata.data_len() as u64;
            if length != expected {
                return Err(ArtifactError::Length { expected, actual: length });
            }
            compare(&metadata, shapes, precision)
        })
        .map_err(|source| refused(path, source))
}

/// Returns the header length given by the first eight bytes of a file of `length` bytes.
fn announced(start: &[u8], length: u64) -> Result<u64, ArtifactError> {
    let refuse = |found: String, expected: String| ArtifactError::Header { expected, found };
    let Ok(bytes) = <[u8; LENGTH_BYTES as usize]>::try_from(start) else {
        return Err(refuse(format!("{length} bytes"), "8 bytes of header length".into()));
    };
    let (announced, most) = (u64::from_le_bytes(bytes), LONGEST.min(length - LENGTH_BYTES));
    if announced > most {
        return Err(refuse(format!("a header of {announced} bytes"), format!("at most {most}")));
    }
    Ok(announced)
}

fn parse(header: &[u8]) -> Result<Metadata, ArtifactError> {
    serde_json::from_slice(header).map_err(|error| ArtifactError::Header {
        expected: "JSON with name, type, shape and offsets of every tensor".into(),
        found: error.to_string(),
    })
}

fn compare(
    metadata: &Metadata,
    shapes: &Shapes,
    precision: Precision,
) -> Result<(), ArtifactError> {
    let stored = metadata.tensors();
    // Sorted, so that the error names the same tensor every time.
    let mut names: Vec<&String> = stored.keys().collect();
    names.sort_unstable();
    if let Some(name) = names.into_iter().find(|name| !shapes.contains_key(*name)) {
        return Err(ArtifactError::Unexpected { tensor: name.clone() });
    }
    for (tensor, expected) in shapes {
        let Some(info) = stored.get(tensor) else {
            return Err(ArtifactError::Missing { tensor: tensor.clone() });
        };
        let same = |(&actual, &expected): (&usize, &i64)| i64::try_from(actual) == Ok(expected);
        if info.shape.len() != expected.len() || !info.shape.iter().zip(expected).all(same) {
            return Err(ArtifactError::Shape {
                tensor: tensor.clone(),
                expected: expected.clone(),
                actual: info.shape.clone(),
            });
        }
        if info.dtype != precision.dtype() {
            return Err(ArtifactError::Precision {
                tensor: tensor.clone(),
                expected: precision.name(),
                actual: info.dtype.to_string().to_lowercase(),
            });
        }
    }
    Ok(())
}
