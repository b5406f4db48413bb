//! Named tensors: safetensors files and conversions.

use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Tensors by name.
pub type Weights = BTreeMap<String, Tensor>;

/// Writes tensors to a safetensors file. The write itself is not atomic.
///
/// # Errors
/// [`Error::File`] if the file cannot be written.
pub(crate) fn write(path: &Path, tensors: &Weights) -> Result<()> {
    let plain = |tensor: &Tensor| -> Result<Tensor> {
        Ok(tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?)
    };
    let named: Vec<(&String, Tensor)> =
        tensors.iter().map(|(name, tensor)| Ok((name, plain(tensor)?))).collect::<Result<_>>()?;
    Tensor::write_safetensors(&named, path).map_err(|error| Error::file(path, error))
}

/// Returns all tensors of a safetensors file, on `device`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened, [`Error::File`] if it is not a complete safetensors
/// file.
pub(crate) fn read(path: &Path, device: Device) -> Result<Weights> {
    // Opened first: libtorch's own error does not distinguish a missing file from a damaged one.
    std::fs::File::open(path).map_err(|source| Error::io("read", path, source))?;
    let tensors = Tensor::read_safetensors(path).map_err(|error| Error::file(path, error))?;
    tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.f_to_device(device)?))).collect()
}

/// Returns the tensor as f32 if it is f16 or bf16, else as it is: for sums in full precision.
pub(crate) fn widened(tensor: &Tensor) -> Result<Tensor> {
    match tensor.kind() {
        Kind::Half | Kind::BFloat16 => Ok(tensor.f_to_kind(Kind::Float)?),
        _ => Ok(tensor.shallow_clone()),
    }
}

/// Returns all elements of a tensor, flattened, as f64 on the host.
pub(crate) fn to_host(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat =
        tensor.f_detach()?.f_flatten(0, -1)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
    Vec::try_from(flat).map_err(Error::from)
}

/// Returns the bytes of a contiguous copy on the host, little-endian as on every machine that
/// libtorch supports.
#[cfg(feature = "export")]
pub(crate) fn to_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let plain = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; plain.numel() * plain.f_kind()?.elt_size_in_bytes()];
    plain.f_copy_data_u8(&mut bytes, plain.numel())?;
    Ok(bytes)
}
