//! Named tensors in safetensors files.

use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Tensor};

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
