//! The header of `model.safetensors`, checked against the variables of a network.

use super::refused;
use crate::error::ArtifactError;
use crate::models::Shapes;
use crate::subnet::Precision;
use crate::tensors::{read_header, Dtype, HeaderFault, Metadata, Weights};
use crate::{Error, Result};
use std::path::Path;
use tch::{Kind, Tensor};

/// Checks that a file holds exactly the variables of these shapes, all in `precision` or of integers or flags. Reads
/// the header only.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Artifact`] if its contents differ.
pub(super) fn check(path: &Path, shapes: &Shapes, precision: Precision) -> Result<()> {
    let metadata = read_header(path).map_err(|fault| match fault {
        HeaderFault::Io(source) => Error::io("read", path, source),
        HeaderFault::Contents { expected, found } => {
            refused(path, ArtifactError::Header { expected, found })
        }
        HeaderFault::Length { expected, actual } => {
            refused(path, ArtifactError::Length { expected, actual })
        }
    })?;
    compare(&metadata, shapes, precision).map_err(|source| refused(path, source))
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
        if info.dtype != precision.dtype() && !is_of_buffer(info.dtype) {
            return Err(ArtifactError::Precision {
                tensor: tensor.clone(),
                expected: precision.name(),
                actual: info.dtype.to_string().to_lowercase(),
            });
        }
    }
    Ok(())
}

/// Whether a buffer of integers or flags has this type.
fn is_of_buffer(dtype: Dtype) -> bool {
    use Dtype::{BOOL, I16, I32, I64, I8, U8};
    matches!(dtype, BOOL | U8 | I8 | I16 | I32 | I64)
}

/// Checks that integers and flags in a file are those of variables of the same type.
///
/// # Errors
/// [`Error::File`] with the first variable of another type.
pub(super) fn expect_types(path: &Path, stored: &Weights, own: &Weights) -> Result<()> {
    for (tensor, variable) in own {
        let Some(kind) = stored.get(tensor).map(Tensor::kind) else { continue };
        if kind != variable.kind() && !(is_float(kind) && is_float(variable.kind())) {
            let expected = variable.kind();
            let reason = format!(
                "type of {tensor}: got {kind:?}, expected {expected:?} as in the network; save the artifact again"
            );
            return Err(Error::file(path, reason));
        }
    }
    Ok(())
}

fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double)
}
