//! Where the state dict is in a checkpoint of `torch.save`.

use super::pickle::{unsupported_type, Pickle, Place, Value};
use crate::error::CheckpointError;
use std::collections::BTreeSet;

/// Keys of exponential moving averages of the weights.
const EMA_KEYS: [&str; 9] = [
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "model_ema_state_dict",
    "ema_model_state_dict",
    "ema_model",
    "params_ema",
    "averaged_model",
    "ema",
];

/// Keys of the weights that are trained. The teacher of a self-supervised method comes last but one:
/// beside a student alone, it is the network to use.
const RAW_KEYS: [&str; 13] = [
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "net",
    "net_state_dict",
    "network",
    "module",
    "params",
    "weights",
    "backbone",
    "teacher",
    "student",
];

/// Keys in a message, at most.
const LISTED: usize = 12;

pub(super) type Entries = [(Place, Place)];

/// The state dict of a checkpoint.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) entries: &'a Entries,
    /// Keys that lead to it, joined by dots; empty for the whole checkpoint.
    pub(super) path: String,
    /// Paths of the other state dicts that were looked for and are there.
    pub(super) others: Vec<String>,
}

/// Returns whether a path of keys is that of an EMA.
pub(super) fn is_ema(path: &str) -> bool {
    path.split('.').any(|key| EMA_KEYS.contains(&key))
}

/// Returns the dict under the path `wanted`; without one, the first state dict under the keys of
/// EMA, then of raw weights, or else the whole pickle.
pub(super) fn find<'a>(
    pickle: &'a Pickle,
    wanted: Option<&str>,
) -> Result<Found<'a>, CheckpointError> {
    let root = match pickle.root() {
        Value::Dict(entries) => entries,
        other => return Err(unfit("the checkpoint", "a dict", other)),
    };
    if let Some(wanted) = wanted {
        let unknown =
            || CheckpointError::EntryUnknown { entry: wanted.into(), found: keys(pickle, root) };
        let entries = chosen(pickle, root, wanted).ok_or_else(unknown)?;
        return Ok(Found { entries, path: wanted.into(), others: vec![] });
    }
    let mut search = Search { pickle, seen: BTreeSet::new(), found: vec![] };
    search.visit("", root, 0)?;
    let mut found = search.found.into_iter();
    match found.next() {
        Some((path, entries)) => {
            Ok(Found { entries, path, others: found.map(|(path, _)| path).collect() })
        }
        None => whole(pickle, root),
    }
}

/// The dict under a path of keys, which may have dots themselves.
fn chosen<'a>(pickle: &'a Pickle, root: &'a Entries, path: &str) -> Option<&'a Entries> {
    let (mut entries, mut rest) = (root, path);
    while !rest.is_empty() {
        let step = entries.iter().rev().find_map(|&(key, value)| {
            let Value::Text(key) = pickle.get(key) else { return None };
            let Value::Dict(inner) = pickle.get(value) else { return None };
            let after = rest.strip_prefix(&**key).filter(|_| !key.is_empty())?;
            let after = match after {
                "" => after,
                after => after.strip_prefix('.').filter(|rest| !rest.is_empty())?,
            };
            Some((&inner[..], after))
        });
        (entries, rest) = step?;
    }
    Some(entries)
}

/// A walk over the dicts under known keys.
struct Search<'a> {
    pickle: &'a Pickle,
    /// Dicts that were visited: many entries can be one dict.
    seen: BTreeSet<Place>,
    found: Vec<(String, &'a Entries)>,
}

impl<'a> Search<'a> {
    /// Collects the state dicts under the keys, in their order.
    fn visit(
        &mut self,
        path: &str,
        entries: &'a Entries,
        depth: usize,
    ) -> Result<(), CheckpointError> {
        for key in EMA_KEYS.iter().chain(&RAW_KEYS) {
            let Some(place) = place_of(self.pickle, entries, key) else { continue };
            let path = if path.is_empty() { (*key).to_owned() } else { format!("{path}.{key}") };
            match self.pickle.get(place) {
                Value::Dict(inner) if depth < 4 && self.seen.insert(place) => {
                    let before = self.found.len();
                    if !self.is_state_dict(inner) {
                        self.visit(&path, inner, depth + 1)?;
                    }
                    if self.found.len() == before && self.has_tensor(inner) {
                        self.found.push((path, inner));
                    }
                }
                // A module or an EMA that was pickled with its class. Other weights may follow, but
                // they are not the ones that come first.
                other if is_object(other) && self.found.is_empty() => {
                    return Err(unfit(&path, "a state dict", other));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn is_state_dict(&self, entries: &Entries) -> bool {
        !entries.is_empty() && entries.iter().all(|&(_, value)| is_tensor(self.pickle.get(value)))
    }

    fn has_tensor(&self, entries: &Entries) -> bool {
        entries.iter().any(|&(_, value)| is_tensor(self.pickle.get(value)))
    }
}

fn is_object(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Global(_))
}

fn is_tensor(value: &Value) -> bool {
    match value {
        Value::Tensor(_) => true,
        Value::Object(global) => unsupported_type(global).is_some(),
        _ => false,
    }
}

/// The whole checkpoint as a state dict, unless its entries show that the state dict is in one of
/// them.
fn whole<'a>(pickle: &Pickle, root: &'a Entries) -> Result<Found<'a>, CheckpointError> {
    let values = || root.iter().map(|&(key, value)| (key, pickle.get(value)));
    let is_filled = |value: &Value| matches!(value, Value::Dict(inner) if !inner.is_empty());
    if !values().any(|(_, value)| is_filled(value)) {
        if values().any(|(_, value)| is_tensor(value)) {
            return Ok(Found { entries: root, path: String::new(), others: vec![] });
        }
        let mut objects = values().filter(|(_, value)| is_object(value));
        if let Some((Value::Text(key), object)) =
            objects.next().map(|(key, object)| (pickle.get(key), object))
        {
            return Err(unfit(key, "a tensor", object));
        }
    }
    Err(CheckpointError::StateDictMissing {
        looked_for: EMA_KEYS.into_iter().chain(RAW_KEYS).collect(),
        found: keys(pickle, root),
    })
}

fn keys(pickle: &Pickle, entries: &Entries) -> Vec<String> {
    let text = |&(key, _): &(Place, Place)| match pickle.get(key) {
        Value::Text(key) => key.chars().take(80).collect(),
        other => other.describe(),
    };
    entries.iter().take(LISTED).map(text).collect()
}

fn place_of(pickle: &Pickle, entries: &Entries, wanted: &str) -> Option<Place> {
    let is_wanted = |place| matches!(pickle.get(place), Value::Text(key) if **key == *wanted);
    entries.iter().rev().find(|&&(key, _)| is_wanted(key)).map(|&(_, value)| value)
}

/// The error of a value that is not what the checkpoint needs there.
pub(super) fn unfit(entry: &str, expected: &'static str, found: &Value) -> CheckpointError {
    let entry = entry.to_owned();
    match found {
        Value::Object(global) | Value::Global(global) => match unsupported_type(global) {
            Some(found) => CheckpointError::Type { tensor: entry, found },
            None => CheckpointError::ForeignGlobal { entry, global: global.to_string() },
        },
        other => CheckpointError::Entry { entry, expected, found: other.describe() },
    }
}
