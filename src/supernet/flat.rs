//! Flat indices: unit (head, channel) has index head · channels + channel.

use crate::space::Size;
use crate::transfer::upload;
use crate::Result;
use tch::{Device, Tensor};

/// Returns the values as an i64 tensor on `device`.
pub(super) fn indices(values: &[i64], device: Device) -> Result<Tensor> {
    upload(values, device)
}

/// Returns the heads of the kept units, which are `size.heads × size.channels` out of heads of
/// `channels` channels.
pub(super) fn heads_of(kept: &Tensor, size: Size, channels: i64) -> Result<Tensor> {
    if size.is_removed() {
        return Ok(kept.shallow_clone());
    }
    let first = kept.f_view([size.heads, size.channels])?.f_select(1, 0)?;
    Ok(first.f_divide_scalar_mode(channels, "floor")?)
}

/// Returns the entries `kept` of the flattened tensor, in `shape`.
pub(super) fn narrow_flat(tensor: &Tensor, kept: &Tensor, shape: [i64; 2]) -> Result<Tensor> {
    Ok(tensor.f_flatten(0, -1)?.f_index_select(0, kept)?.f_view(shape)?)
}
