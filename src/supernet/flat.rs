//! Flat indices: unit (head, channel) has index head · channels + channel.

use crate::transfer::upload;
use crate::Result;
use tch::{Device, Tensor};

/// Returns the values as an i64 tensor on `device`.
pub(super) fn indices(values: &[i64], device: Device) -> Result<Tensor> {
    upload(values, device)
}

/// Returns the entries `kept` of the flattened tensor, in `shape`.
pub(super) fn narrow_flat(tensor: &Tensor, kept: &Tensor, shape: [i64; 2]) -> Result<Tensor> {
    Ok(tensor.f_flatten(0, -1)?.f_index_select(0, kept)?.f_view(shape)?)
}
