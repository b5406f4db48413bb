//! The header of `model.safetensors`, checked against the variables of a network.

use super::refused;
use crate::error::ArtifactError;
use crate::models::Shapes;
use crate::subnet::Precision;
use crate::tensors::{dtype_of, read_header, Dtype, HeaderFault, Metadata, Weights};
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

/// Checks the stored tensors against the variables of the network: integers and flags stand for variables of the same
/// type. Floats also do so where every value is kept exactly: earlier versions stored buffers of integers so.
///
/// # Errors
/// [`ArtifactError::Precision`] with the first weight that is stored as integers or flags; [`Error::File`] with the
/// first variable of integers or flags that is stored otherwise.
pub(super) fn expect_types(
    path: &Path,
    stored: &Weights,
    own: &Weights,
    precision: Precision,
) -> Result<()> {
    for (tensor, variable) in own {
        let Some(source) = stored.get(tensor) else { continue };
        let (kind, expected) = (source.kind(), variable.kind());
        if is_float(expected) && !is_float(kind) {
            let (tensor, expected) = (tensor.clone(), precision.name());
            let actual = dtype_of(kind).map(|own| own.to_string().to_lowercase());
            let actual = actual.unwrap_or_else(|| format!("{kind:?}"));
            return Err(refused(path, ArtifactError::Precision { tensor, expected, actual }));
        }
        if kind != expected && !is_float(expected) && !is_exact(source, expected)? {
            let reason = format!(
                "type of {tensor}: got {kind:?}, expected {expected:?} as in the network; save the artifact again"
            );
            return Err(Error::file(path, reason));
        }
    }
    Ok(())
}

/// Whether every value of a tensor of floats is one of `kind`, of integers or flags.
fn is_exact(floats: &Tensor, kind: Kind) -> Result<bool> {
    if !is_float(floats.kind()) {
        return Ok(false);
    }
    Ok(floats.f_to_kind(kind)?.f_to_kind(floats.kind())?.f_equal(floats)?)
}

fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double)
}
