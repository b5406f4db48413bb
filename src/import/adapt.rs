//! Patch projections for other input channels, by timm's rules.

use crate::error::ImportError;
use crate::Result;
use tch::Tensor;

/// Returns a patch projection for other input channels, as timm's `adapt_input_conv`: for one, the
/// sum over the three channels; for n, the three repeated and scaled by 3/n.
///
/// # Shapes
/// `[E, 3, P, P]` → `[E, channels, P, P]`.
///
/// # Errors
/// [`ImportError::Channels`] unless the weight has three channels.
pub(super) fn channels(name: &str, weight: &Tensor, channels: i64) -> Result<Tensor> {
    let from = weight.size().get(1).copied().unwrap_or(0);
    if from != 3 {
        return Err(ImportError::Channels { name: name.into(), from, to: channels }.into());
    }
    if channels == 1 {
        return Ok(weight.f_sum_dim_intlist([1i64].as_slice(), true, weight.kind())?);
    }
    let repeated = weight.f_repeat([1, (channels + 2) / 3, 1, 1])?;
    Ok(repeated.f_narrow(1, 0, channels)?.f_mul_scalar(3.0 / channels as f64)?)
}
