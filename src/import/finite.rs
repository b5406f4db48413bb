//! Weights as finite numbers in f32.

use crate::error::ImportError;
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Converts a tensor of floats to f32 on the CPU.
///
/// # Errors
/// [`ImportError::NotFinite`] if it has a NaN or an infinity, there or in f32.
pub(super) fn to_f32(name: &str, tensor: &Tensor) -> Result<Tensor> {
    let stored = tensor.f_detach()?.f_to_device(Device::Cpu)?;
    let converted = stored.f_to_kind(Kind::Float)?;
    if is_finite(&converted)? {
        return Ok(converted);
    }
    let found = if is_finite(&stored)? {
        let largest = stored.f_to_kind(Kind::Double)?.f_abs()?.f_max()?;
        format!("{:e}, which is beyond the range of f32", f64::try_from(&largest)?)
    } else if any(&stored.f_isnan()?)? {
        "a NaN".into()
    } else {
        "an infinity".into()
    };
    Err(ImportError::NotFinite { name: name.into(), found }.into())
}

/// Refuses a tensor that the import has computed and that is not finite.
///
/// # Errors
/// [`ImportError::NotFinite`].
pub(super) fn expect_finite(name: &str, tensor: Tensor) -> Result<Tensor> {
    match is_finite(&tensor)? {
        true => Ok(tensor),
        false => {
            let found = "values that overflow f32 when they are adapted".into();
            Err(ImportError::NotFinite { name: name.into(), found }.into())
        }
    }
}

fn is_finite(tensor: &Tensor) -> Result<bool> {
    Ok(!any(&tensor.f_isfinite()?.f_logical_not()?)?)
}

fn any(flags: &Tensor) -> Result<bool> {
    Ok(i64::try_from(&flags.f_any()?.f_to_kind(Kind::Int64)?)? != 0)
}
