//! Named tensors in safetensors files.

use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Named tensors.
pub type Weights = BTreeMap<String, Tensor>;

/// Writes tensors; the caller makes it atomic.
pub(crate) fn write(path: &Path, tensors: &Weights) -> Result<()> {
    let plain = |tensor: &Tensor| -> Result<Tensor> {
        Ok(tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?)
    };
    let named: Vec<(&String, Tensor)> =
        tensors.iter().map(|(name, tensor)| Ok((name, plain(tensor)?))).collect::<Result<_>>()?;
    Tensor::write_safetensors(&named, path).map_err(|error| Error::file(path, error))
}

/// Reads all tensors of a file.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::File`] if it is not a whole safetensors file.
pub(crate) fn read(path: &Path, device: Device) -> Result<Weights> {
    // Asked first, because only the operating system's words tell a missing file from a bad one.
    std::fs::File::open(path).map_err(|source| Error::io("read", path, source))?;
    let tensors = Tensor::read_safetensors(path).map_err(|error| Error::file(path, error))?;
    tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.f_to_device(device)?))).collect()
}

/// The tensor in a kind that sums do not suffer in: f16 and bf16 become f32.
pub(crate) fn widened(tensor: &Tensor) -> Result<Tensor> {
    match tensor.kind() {
        Kind::Half | Kind::BFloat16 => Ok(tensor.f_to_kind(Kind::Float)?),
        _ => Ok(tensor.shallow_clone()),
    }
}

/// All numbers of a tensor, in memory order.
pub(crate) fn to_host(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat =
        tensor.f_detach()?.f_flatten(0, -1)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
    Vec::try_from(flat).map_err(Error::from)
}

#[cfg(feature = "export")]
/// The memory of a contiguous copy: little-endian on every machine libtorch runs on.
pub(crate) fn to_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let plain = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; plain.numel() * plain.f_kind()?.elt_size_in_bytes()];
    plain.f_copy_data_u8(&mut bytes, plain.numel())?;
    Ok(bytes)
}
