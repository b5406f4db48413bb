//! Tensors of the state dict that a torch archive holds.

use super::archive::Archive;
use super::pickle::{Pickle, Place, Storage, TensorClaim, Value};
use crate::error::CheckpointError;
use std::collections::BTreeMap;
use std::fs::File;
use std::rc::Rc;
use tch::Tensor;

/// Keys under which training scripts save the state dict.
const STATE_DICT_KEYS: [&str; 2] = ["model", "state_dict"];

type Entries = [(Place, Place)];

/// Reads the state dict of a torch archive. Tensors that share a storage there share one here.
pub(super) fn read(file: File) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let mut archive = Archive::open(file)?;
    let pickle = Pickle::parse(&archive.pickle()?)?;
    let claims = claims(&pickle)?;
    let mut storages = Storages { archive, read: BTreeMap::new() };
    claims
        .into_iter()
        .map(|(name, claim)| Ok((name.to_string(), storages.tensor(&name, claim)?)))
        .collect()
}

/// Collects the descriptions of all tensors; of two equal names the last counts, as in Python.
fn claims(pickle: &Pickle) -> Result<BTreeMap<Rc<str>, &TensorClaim>, CheckpointError> {
    let mut claims = BTreeMap::new();
    for &(key, value) in find(pickle)? {
        let name = match pickle.get(key) {
            Value::Text(name) => name.clone(),
            other => return Err(unfit("a key of the state dict", "a string", other)),
        };
        match pickle.get(value) {
            Value::Tensor(claim) => claims.insert(name, &**claim),
            other => return Err(unfit(&name, "a tensor", other)),
        };
    }
    Ok(claims)
}

/// Returns the dict under one of [`STATE_DICT_KEYS`], or else the whole pickle.
fn find(pickle: &Pickle) -> Result<&Entries, CheckpointError> {
    let whole = match pickle.root() {
        Value::Dict(entries) => entries,
        other => return Err(unfit("the checkpoint", "a dict", other)),
    };
    for key in STATE_DICT_KEYS {
        match value_of(pickle, whole, key) {
            Some(Value::Dict(entries)) => return Ok(entries),
            // A module that was pickled with its class instead of its state dict.
            Some(other @ (Value::Object(_) | Value::Global(_))) => {
                return Err(unfit(key, "a state dict", other));
            }
            _ => {}
        }
    }
    Ok(whole)
}

fn value_of<'a>(pickle: &'a Pickle, entries: &Entries, wanted: &str) -> Option<&'a Value> {
    let is_wanted = |place| matches!(pickle.get(place), Value::Text(key) if **key == *wanted);
    let found = entries.iter().rev().find(|&&(key, _)| is_wanted(key));
    found.map(|&(_, value)| pickle.get(value))
}

fn unfit(entry: &str, expected: &'static str, found: &Value) -> CheckpointError {
    let entry = entry.to_owned();
    match found {
        Value::Object(global) | Value::Global(global) => {
            CheckpointError::ForeignGlobal { entry, global: global.to_string() }
        }
        other => CheckpointError::Entry { entry, expected, found: other.describe() },
    }
}

/// The storages read so far, each as a flat tensor.
#[derive(Debug)]
struct Storages {
    archive: Archive,
    /// By key and element type, because tensors of several types can be views of one storage.
    read: BTreeMap<(Rc<str>, i32), Tensor>,
}

impl Storages {
    fn tensor(&mut self, name: &str, claim: &TensorClaim) -> Result<Tensor, CheckpointError> {
        let TensorClaim { storage, offset, shape, strides } = claim;
        let needed = reach(name, claim)?.max(storage.elements);
        let flat = self.storage(name, storage)?;
        let actual = flat.numel() as u64;
        if needed > actual {
            let (tensor, storage) = (name.into(), storage.key.to_string());
            return Err(CheckpointError::Storage { tensor, storage, needed, actual });
        }
        // A stride of 0 makes a huge view of few bytes, whose copy would need all of its size.
        if shape.iter().product::<i64>() as u64 > actual {
            return Err(layout(name, claim, "no more elements than its storage has"));
        }
        let view = flat.f_as_strided(&shape[..], &strides[..], *offset);
        view.map_err(|source| CheckpointError::Tensor { tensor: name.into(), source })
    }

    fn storage(&mut self, name: &str, storage: &Storage) -> Result<Tensor, CheckpointError> {
        let id = (storage.key.clone(), storage.kind as i32);
        if let Some(flat) = self.read.get(&id) {
            return Ok(flat.shallow_clone());
        }
        let bytes = self.archive.storage(&storage.key)?;
        let elements = bytes.len() / storage.kind.elt_size_in_bytes();
        let flat = Tensor::f_from_data_size(&bytes, &[elements as i64], storage.kind)
            .map_err(|source| CheckpointError::Tensor { tensor: name.into(), source })?;
        self.read.insert(id, flat.shallow_clone());
        Ok(flat)
    }
}

/// Returns the number of storage elements up to the last that the tensor uses.
fn reach(name: &str, claim: &TensorClaim) -> Result<u64, CheckpointError> {
    let TensorClaim { offset, shape, strides, .. } = claim;
    if shape.len() != strides.len() {
        return Err(layout(name, claim, "one stride per axis"));
    }
    if [&[*offset], &shape[..], &strides[..]].concat().iter().any(|&number| number < 0) {
        return Err(layout(name, claim, "no negative number"));
    }
    let overflow = || layout(name, claim, "numbers whose products fit 64 bits");
    let product = |so_far: i64, &size: &i64| so_far.checked_mul(size);
    if shape.iter().try_fold(1, product).ok_or_else(overflow)? == 0 {
        return Ok(0);
    }
    let further = |so_far: i64, (&size, &stride): (&i64, &i64)| {
        so_far.checked_add((size - 1).checked_mul(stride)?)
    };
    let last = shape.iter().zip(strides).try_fold(*offset, further).ok_or_else(overflow)?;
    Ok(last as u64 + 1)
}

fn layout(name: &str, claim: &TensorClaim, expected: &'static str) -> CheckpointError {
    CheckpointError::Layout {
        tensor: name.into(),
        expected,
        shape: claim.shape.clone(),
        strides: claim.strides.clone(),
        offset: claim.offset,
    }
}
