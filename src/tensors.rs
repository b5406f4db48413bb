//! Named tensors: safetensors files and conversions.

mod flat;
mod header;

pub(crate) use flat::blocks;
pub use flat::{FlatTensors, Layout, Segment};
pub(crate) use header::{read_header, Dtype, HeaderFault, Metadata};

use crate::{Error, Result};
use safetensors::tensor::TensorInfo;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Bytes that the length of a header is a multiple of.
const ALIGNMENT: usize = 8;

/// Tensors by name.
pub type Weights = BTreeMap<String, Tensor>;

/// Writes tensors to a safetensors file. The write itself is not atomic.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; those of [`write_to`].
pub(crate) fn write(path: &Path, tensors: &Weights) -> Result<()> {
    let io = |source| Error::io("write", path, source);
    let mut out = BufWriter::new(File::create(path).map_err(io)?);
    write_to(&mut out, path, tensors)?;
    out.flush().map_err(io)
}

/// Writes tensors in the format of safetensors. `path` is for errors.
///
/// # Errors
/// [`Error::Io`] if writing fails; [`Error::File`] for a tensor of a type that the format lacks.
pub(crate) fn write_to(out: &mut impl Write, path: &Path, tensors: &Weights) -> Result<()> {
    let io = |source| Error::io("write", path, source);
    let mut ordered: Vec<(&String, &Tensor, Dtype)> = Vec::new();
    for (name, tensor) in tensors {
        ordered.push((name, tensor, stored_type(path, name, tensor)?));
    }
    // As the format asks for: the widest type first, so that every tensor is aligned.
    ordered.sort_by(|left, right| right.2.cmp(&left.2).then(left.0.cmp(right.0)));
    let header = header(path, &ordered)?;
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    out.write_all(&header).map_err(io)?;
    ordered.iter().try_for_each(|(_, tensor, _)| out.write_all(&to_bytes(tensor)?).map_err(io))
}

/// Returns the header of a file with these tensors, one after the other.
fn header(path: &Path, tensors: &[(&String, &Tensor, Dtype)]) -> Result<Vec<u8>> {
    let mut end = 0;
    let information = tensors.iter().map(|&(name, tensor, dtype)| {
        let shape: Vec<usize> = tensor.size().iter().map(|&length| length as usize).collect();
        let start = end;
        end += tensor.numel() * tensor.kind().elt_size_in_bytes();
        (name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
    });
    let metadata = Metadata::new(None, information.collect());
    let metadata = metadata.map_err(|error| Error::file(path, error))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| Error::file(path, error))?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    Ok(header)
}

fn stored_type(path: &Path, name: &str, tensor: &Tensor) -> Result<Dtype> {
    let kind = tensor.kind();
    dtype_of(kind).ok_or_else(|| {
        let reason = format!("type of {name}: got {kind:?}, expected one that safetensors has");
        Error::file(path, reason)
    })
}

/// Returns the type of safetensors for a kind; `None` for a kind that it does not have.
pub(crate) fn dtype_of(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Bool => Dtype::BOOL,
        Kind::Uint8 => Dtype::U8,
        Kind::Int8 => Dtype::I8,
        Kind::Int16 => Dtype::I16,
        Kind::Int => Dtype::I32,
        Kind::Int64 => Dtype::I64,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Half => Dtype::F16,
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        _ => return None,
    })
}

/// Returns all tensors of a safetensors file, on `device`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened, [`Error::File`] if it is not a complete safetensors
/// file.
pub(crate) fn read(path: &Path, device: Device) -> Result<Weights> {
    // Opened first: libtorch's own error does not distinguish a missing file from a damaged one.
    crate::files::open(path).map_err(|source| Error::io("read", path, source))?;
    let tensors = Tensor::read_safetensors(path).map_err(|error| Error::file(path, error))?;
    tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.f_to_device(device)?))).collect()
}

/// Returns tensors as one with one axis, one after the other.
pub(crate) fn joined<T: Borrow<Tensor>>(tensors: impl IntoIterator<Item = T>) -> Result<Tensor> {
    let parts = tensors.into_iter().map(|own| own.borrow().f_reshape([-1]));
    Ok(Tensor::f_cat(&parts.collect::<std::result::Result<Vec<_>, _>>()?, 0)?)
}

/// Returns the tensor as f32 if it is f16 or bf16, else as it is: for sums in full precision.
pub(crate) fn widened(tensor: &Tensor) -> Result<Tensor> {
    match tensor.kind() {
        Kind::Half | Kind::BFloat16 => Ok(tensor.f_to_kind(Kind::Float)?),
        _ => Ok(tensor.shallow_clone()),
    }
}

/// Converts floating-point tensors to `kind`, in place: a network that holds one computes with the converted values.
/// Integers and flags keep their type.
pub(crate) fn convert<'a>(tensors: impl IntoIterator<Item = &'a Tensor>, kind: Kind) -> Result<()> {
    for own in tensors.into_iter().filter(|own| own.is_floating_point() && own.kind() != kind) {
        let converted = crate::autograd::no_grad(|| own.f_to_kind(kind))?;
        own.shallow_clone().f_set_data(&converted)?;
    }
    Ok(())
}

/// Returns all elements of a tensor, flattened, as f64 on the host.
pub(crate) fn to_host(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat =
        tensor.f_detach()?.f_flatten(0, -1)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
    Vec::try_from(flat).map_err(Error::from)
}

/// Tensors that go to the host as f64, all in one transfer.
#[derive(Debug, Default)]
pub(crate) struct ToHost {
    parts: Vec<Tensor>,
    length: usize,
}

impl ToHost {
    /// Adds a tensor; returns the places of its elements in [`numbers`](Self::numbers).
    pub(crate) fn push(&mut self, tensor: &Tensor) -> Result<Range<usize>> {
        self.parts.push(tensor.f_detach()?.f_reshape([-1])?.f_to_kind(Kind::Double)?);
        let first = self.length;
        self.length += tensor.numel();
        Ok(first..self.length)
    }

    /// Returns the elements of all tensors. Waits for the device.
    pub(crate) fn numbers(&self) -> Result<Vec<f64>> {
        to_host(&Tensor::f_cat(&self.parts, 0)?)
    }
}

/// Returns the sum of the bits of numbers of four or eight bytes, taken for 32-bit integers: a checksum
/// that is exact in any order, a scalar, i64, on the device.
pub(crate) fn bit_sum(tensor: &Tensor) -> Result<Tensor> {
    let flat = tensor.f_detach()?.f_contiguous()?.f_view([-1])?;
    Ok(flat.f_view_dtype(Kind::Int)?.f_sum(Kind::Int64)?)
}

/// Returns the bytes of a contiguous copy on the host, little-endian as on every machine that
/// libtorch supports.
pub(crate) fn to_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let plain = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; plain.numel() * plain.f_kind()?.elt_size_in_bytes()];
    plain.f_copy_data_u8(&mut bytes, plain.numel())?;
    Ok(bytes)
}
