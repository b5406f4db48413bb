//! Copies from the host to a device that the host does not wait for.
//!
//! To CUDA, libtorch issues a copy without waiting only if it is asked to (`non_blocking`) and the source is
//! in pinned (page-locked) memory. Every call of [`pinned`] takes a block of its own from libtorch's
//! caching allocator of pinned memory, and nothing is written to the block afterwards. With [`to_device`]
//! libtorch notes the stream of the copy in the block; when the block is freed it records an event in that
//! stream, and it gives the block out again only after the event has happened. So the pinned tensor may be
//! dropped at once, and its memory is not overwritten before it has been copied.
//!
//! tch binds no CUDA streams: the copies are in the stream of the network's operators.

use crate::Result;
use tch::{Device, Tensor};

/// Returns a copy of a CPU tensor in pinned memory for transfer to CUDA, or the tensor itself for
/// another device.
pub(crate) fn pinned(tensor: Tensor, device: Device) -> Result<Tensor> {
    match device {
        // `f_pin_memory` passes the device to `Tensor.is_pinned` and `Tensor.pin_memory`, which are deprecated with
        // it and warn twice a call; this is the operator below them, which takes it.
        Device::Cuda(_) => Ok(tensor.f_internal_pin_memory(device)?),
        _ => Ok(tensor),
    }
}

/// Returns a tensor on a device. From [`pinned`] memory to CUDA the copy is only issued; operators that
/// read the result follow it in the stream.
pub(crate) fn to_device(pinned: &Tensor, device: Device) -> Result<Tensor> {
    // Elsewhere the host may not free the source before the copy is done, so it waits.
    let non_blocking = matches!(device, Device::Cuda(_));
    Ok(pinned.f_to_device_(device, pinned.f_kind()?, non_blocking, false)?)
}

/// Copies numbers to a device, without waiting for it.
pub(crate) fn upload<T: tch::kind::Element>(values: &[T], device: Device) -> Result<Tensor> {
    to_device(&pinned(Tensor::f_from_slice(values)?, device)?, device)
}
