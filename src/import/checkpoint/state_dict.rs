//! Tensors of the state dict that a torch archive holds.

use super::archive::Archive;
use super::ema_keys::is_ema;
use super::entry::{self, unfit, Entries};
use super::pickle::{Pickle, Storage, TensorClaim, Value};
use super::{Checkpoint, Container, Source};
use crate::error::CheckpointError;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use tch::Tensor;

/// Elements of a tensor that has more than its storage, at most: one that was expanded.
const MOST_EXPANDED: u64 = 1 << 16;

/// Reads a state dict of a torch archive: that under `wanted`, or the one that is found. Tensors
/// that share a storage there share one here.
pub(super) fn read(
    path: &Path,
    file: File,
    wanted: Option<&str>,
) -> Result<Checkpoint, CheckpointError> {
    let mut archive = Archive::open(file)?;
    let pickle = Pickle::parse(&archive.pickle()?)?;
    let found = entry::find(&pickle, wanted)?;
    let claims = claims(&pickle, found.entries)?;
    let mut storages = Storages { archive, read: BTreeMap::new() };
    let tensors = claims.into_iter();
    let weights = tensors
        .map(|(name, claim)| Ok((name.to_string(), storages.tensor(&name, claim)?)))
        .collect::<Result<_, CheckpointError>>()?;
    let source = Source {
        ema: is_ema(&found.path),
        entry: Some(found.path).filter(|path| !path.is_empty()),
        other_entries: found.others,
        ..Source::whole(Container::TorchArchive, path)
    };
    Ok(Checkpoint { weights, source })
}

/// Collects the descriptions of all tensors; of two equal names the last counts, as in Python.
fn claims<'a>(
    pickle: &'a Pickle,
    entries: &Entries,
) -> Result<BTreeMap<Rc<str>, &'a TensorClaim>, CheckpointError> {
    let mut claims = BTreeMap::new();
    for &(key, value) in entries {
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

/// The storages read so far, each as a flat tensor.
#[derive(Debug)]
struct Storages {
    archive: Archive,
    /// By key and element type, because tensors of several types can be views of one storage.
    read: BTreeMap<(Rc<str>, i32), Tensor>,
}

impl Storages {
    fn tensor(&mut self, name: &str, claim: &TensorClaim) -> Result<Tensor, CheckpointError> {
        let TensorClaim { storage, offset, shape, strides, negative } = claim;
        let needed = reach(name, claim)?.max(storage.elements);
        let flat = self.storage(name, storage)?;
        let actual = flat.numel() as u64;
        if needed > actual {
            let (tensor, storage) = (name.into(), storage.key.to_string());
            return Err(CheckpointError::Storage { tensor, storage, needed, actual });
        }
        // A stride of 0 makes a huge view of few bytes, whose copy would need all of its size.
        let elements = shape.iter().product::<i64>() as u64;
        if elements > actual.max(MOST_EXPANDED) {
            return Err(layout(name, claim, "at most 65,536 elements, or those of its storage"));
        }
        // Each tensor becomes a copy sooner or later, however many share one storage.
        let bytes = elements.saturating_mul(storage.kind.elt_size_in_bytes() as u64);
        self.archive.charge(name, bytes)?;
        let view = flat.f_as_strided(&shape[..], &strides[..], *offset).and_then(|view| {
            if *negative {
                view.f_neg()
            } else {
                Ok(view)
            }
        });
        view.map_err(|source| CheckpointError::Tensor {
            tensor: name.into(),
            source: crate::error::plain(source),
        })
    }

    fn storage(&mut self, name: &str, storage: &Storage) -> Result<Tensor, CheckpointError> {
        let id = (storage.key.clone(), storage.kind as i32);
        if let Some(flat) = self.read.get(&id) {
            return Ok(flat.shallow_clone());
        }
        let bytes = self.archive.storage(&storage.key)?;
        let elements = bytes.len() / storage.kind.elt_size_in_bytes();
        let flat = Tensor::f_from_data_size(&bytes, &[elements as i64], storage.kind).map_err(
            |source| CheckpointError::Tensor {
                tensor: name.into(),
                source: crate::error::plain(source),
            },
        )?;
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
