//! Units and candidates by their flat numbers.

use crate::space::Size;
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Numbers on a device, i64.
pub(super) fn indices(values: &[i64], device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_to_kind(Kind::Int64)?.f_to_device(device)?)
}

/// The heads that kept units, a grid of `size` cut out of heads of `channels`, sit in.
pub(super) fn heads_of(kept: &Tensor, size: Size, channels: i64) -> Result<Tensor> {
    let first = kept.f_view([size.heads, size.channels])?.f_select(1, 0)?;
    Ok(first.f_divide_scalar_mode(channels, "floor")?)
}

/// Entries of a flattened tensor, in a new shape.
pub(super) fn narrow_flat(tensor: &Tensor, kept: &Tensor, shape: [i64; 2]) -> Result<Tensor> {
    Ok(tensor.f_flatten(0, -1)?.f_index_select(0, kept)?.f_view(shape)?)
}
