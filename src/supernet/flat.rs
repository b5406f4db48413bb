//! Flat indices: unit (head, channel) has index head · channels + channel.

use crate::transfer::upload;
use crate::Result;
use tch::{Device, Tensor};

/// Returns the values as an i64 tensor on `device`.
pub(super) fn indices(values: &[i64], device: Device) -> Result<Tensor> {
    upload(values, device)
}

/// Returns the units `kept` of a tensor `[…, heads, channels]`, `[…, shape]`.
pub(super) fn narrow_flat(tensor: &Tensor, kept: &Tensor, shape: [i64; 2]) -> Result<Tensor> {
    let leading = &tensor.size()[..tensor.dim().saturating_sub(2)];
    let narrowed = tensor.f_flatten(-2, -1)?.f_index_select(-1, kept)?;
    Ok(narrowed.f_view(&[leading, &shape[..]].concat()[..])?)
}
