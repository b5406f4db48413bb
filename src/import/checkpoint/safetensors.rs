//! Reader of safetensors files.

use super::MAX_RANK;
use crate::error::CheckpointError;
use crate::tensors::Weights;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::Dtype;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use tch::{Kind, Tensor};

/// Bytes before the header: its length.
const LENGTH_BYTES: u64 = 8;
/// Longest header that the format allows.
const LONGEST: u64 = 100_000_000;
/// Characters of the name of a type in a message, at most.
const LONGEST_TYPE: usize = 20;

/// Returns whether `head`, the first nine bytes of a file of `length` bytes, begins a safetensors
/// file: a header that fits into the file, in braces.
pub(super) fn begins(head: &[u8], length: u64) -> bool {
    header_length(head).is_some_and(|header| header <= length.saturating_sub(LENGTH_BYTES))
}

/// Returns the error of a file of `length` bytes that ends inside its header; `None` for another one.
pub(super) fn cut_header(head: &[u8], length: u64) -> Option<CheckpointError> {
    let found = length.saturating_sub(LENGTH_BYTES);
    let expected = header_length(head).filter(|header| *header > found)?;
    Some(damaged(format!(
        "header: got {found} bytes, expected {expected}; the file is cut, copy or download it again"
    )))
}

/// Returns the length of the header that `head`, the first nine bytes of a file, announces; `None` unless it is one that
/// the format allows, in braces.
fn header_length(head: &[u8]) -> Option<u64> {
    match head {
        [header @ .., b'{'] if header.len() == 8 => {
            Some(announced(header)).filter(|length| *length <= LONGEST)
        }
        _ => None,
    }
}

fn announced(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Reads all tensors of a file of `length` bytes that [`begins`] as safetensors.
pub(super) fn read(mut file: File, length: u64) -> Result<Weights, CheckpointError> {
    let mut start = Vec::new();
    file.by_ref().take(LENGTH_BYTES).read_to_end(&mut start)?;
    let header_length = announced(&start);
    let mut header = Vec::new();
    file.by_ref().take(header_length).read_to_end(&mut header)?;
    // Deserialising checks that the tensors fill `data_len` without gaps.
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| foreign_type(&header).unwrap_or_else(|| damaged(error)))?;
    let expected = (metadata.data_len() as u64).saturating_add(LENGTH_BYTES + header_length);
    if length != expected {
        return Err(damaged(format!("length: got {length} bytes, expected {expected}")));
    }
    let infos = metadata.tensors();
    let mut weights = Weights::new();
    // In the order of their bytes.
    for name in metadata.offset_keys() {
        if let Some(info) = infos.get(&name) {
            let tensor = tensor(&name, info, &mut file)?;
            weights.insert(name, tensor);
        }
    }
    Ok(weights)
}

/// Returns the error for the first tensor of a type that the format's reader does not know; `None` if
/// the header has another fault.
fn foreign_type(header: &[u8]) -> Option<CheckpointError> {
    let tensors: BTreeMap<String, Value> = serde_json::from_slice(header).ok()?;
    let unknown =
        tensors.iter().filter(|(name, _)| *name != "__metadata__").find_map(|(name, info)| {
            let dtype = info.get("dtype")?;
            let found = dtype.as_str()?;
            let is_unknown = Dtype::deserialize(dtype).is_err();
            is_unknown.then(|| (name.clone(), found.chars().take(LONGEST_TYPE).collect()))
        });
    unknown.map(|(tensor, found)| CheckpointError::Type { tensor, found })
}

/// Reads the tensor whose bytes come next.
fn tensor(name: &str, info: &TensorInfo, file: &mut File) -> Result<Tensor, CheckpointError> {
    let Some(kind) = kind(info.dtype) else {
        return Err(CheckpointError::Type { tensor: name.into(), found: info.dtype.to_string() });
    };
    let sizes = info.shape.iter().map(|&size| i64::try_from(size));
    let shape: Vec<i64> = sizes.collect::<Result<_, _>>().map_err(damaged)?;
    if shape.len() > MAX_RANK {
        let found = shape.len();
        return Err(damaged(format!("axes of {name}: got {found}, expected at most {MAX_RANK}")));
    }
    let (begin, end) = info.data_offsets;
    let (mut bytes, length) = (Vec::new(), end.saturating_sub(begin));
    file.take(length as u64).read_to_end(&mut bytes)?;
    // `Metadata` has compared the length with the shape; the file may have changed since.
    if bytes.len() != length {
        return Err(damaged(format!("{name}: got {} bytes, expected {length}", bytes.len())));
    }
    Tensor::f_from_data_size(&bytes, &shape, kind).map_err(|source| CheckpointError::Tensor {
        tensor: name.into(),
        source: crate::error::plain(source),
    })
}

fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        // Read as bytes, because not every byte is a valid bool.
        Dtype::U8 | Dtype::BOOL => Kind::Uint8,
        _ => return None,
    })
}

fn damaged(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CheckpointError {
    CheckpointError::Safetensors { source: source.into() }
}
