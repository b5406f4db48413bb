//! Where the state dict is in a checkpoint of `torch.save`.

use super::ema_keys::{is_ema_key, says_ema, EMA_KEYS};
use super::pickle::{unsupported_type, Pickle, Place, Value};
use crate::error::CheckpointError;
use std::collections::BTreeMap;

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
/// Bytes of a key that may lead to a state dict, at most: each is copied into the paths of all dicts below.
const MAX_KEY: usize = 255;

/// Dicts of tensors that are kept with their paths, at most: of those that may be taken, of the others, and of lists.
const MAX_FOUND: usize = 1024;

pub(super) type Entries = [(Place, Place)];

/// The state dict of a checkpoint.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) entries: &'a Entries,
    /// Keys that lead to it, joined by dots; empty for the whole checkpoint.
    pub(super) path: String,
    /// Paths of the other dicts of tensors, except those of optimisers, and of lists of an EMA.
    pub(super) others: Vec<String>,
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
    let (seen, found, lists) = (BTreeMap::new(), vec![], vec![]);
    let mut search = Search { pickle, seen, found, taken: 0, lists };
    search.visit("", root, Rank::Raw, 0)?;
    search.result().map_or_else(|| whole(pickle, root), Ok)
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

/// How likely a state dict is the one to take, by its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// One of [`EMA_KEYS`].
    Ema,
    /// Another key that says EMA.
    EmaLike,
    /// One of [`RAW_KEYS`].
    Raw,
    /// An unknown key: never taken, unless the option names it.
    Unknown,
}

/// A dict of tensors in the checkpoint.
#[derive(Debug)]
struct Candidate<'a> {
    rank: Rank,
    path: String,
    entries: &'a Entries,
}

/// A walk over the dicts of a checkpoint.
struct Search<'a> {
    pickle: &'a Pickle,
    /// Dicts that were visited, and whether they have a tensor: many entries can be one dict.
    seen: BTreeMap<Place, bool>,
    found: Vec<Candidate<'a>>,
    /// Number of the state dicts in `found` that may be taken.
    taken: usize,
    /// Paths of lists under keys of an EMA, whose tensors have no names.
    lists: Vec<String>,
}

impl<'a> Search<'a> {
    /// Collects the dicts of tensors, in the order of their keys.
    fn visit(
        &mut self,
        path: &str,
        entries: &'a Entries,
        above: Rank,
        depth: usize,
    ) -> Result<(), CheckpointError> {
        for (own, _, key, place) in in_order(self.pickle, entries) {
            let is_unknown = [own, above].contains(&Rank::Unknown);
            let rank = if is_unknown { Rank::Unknown } else { own.min(above) };
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            match self.pickle.get(place) {
                Value::Dict(inner) if depth < 4 => {
                    let before = self.taken;
                    let seen = self.seen.get(&place).copied();
                    let has_tensor = seen.unwrap_or_else(|| self.has_tensor(inner));
                    if seen.is_none() {
                        self.seen.insert(place, has_tensor);
                        if !self.is_state_dict(inner) {
                            self.visit(&path, inner, rank, depth + 1)?;
                        }
                    }
                    if self.taken == before && has_tensor {
                        self.push(Candidate { rank, path, entries: inner })?;
                    }
                }
                // A module or an EMA that was pickled with its class. Other weights may follow, but
                // they are not the ones that come first.
                other
                    if is_object(other)
                        && matches!(rank, Rank::Ema | Rank::Raw)
                        && self.taken == 0 =>
                {
                    return Err(unfit(&path, "a state dict", other));
                }
                Value::Other("a list") if is_ema_key(key) && self.lists.len() < MAX_FOUND => {
                    self.lists.push(format!("{path} (a list, without names)"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps a dict. Of those that are never taken, further ones are not listed.
    fn push(&mut self, found: Candidate<'a>) -> Result<(), CheckpointError> {
        let others = self.found.len() - self.taken;
        match found.rank {
            Rank::Unknown if others < MAX_FOUND => self.found.push(found),
            Rank::Unknown => {}
            _ if self.taken < MAX_FOUND => {
                self.taken += 1;
                self.found.push(found);
            }
            _ => {
                let (what, limit) = ("state dicts under keys of weights".into(), MAX_FOUND as u64);
                return Err(CheckpointError::TooMany { what, limit, actual: limit + 1 });
            }
        }
        Ok(())
    }

    /// Returns the state dict to take: the first of the likeliest, if there is one.
    fn result(mut self) -> Option<Found<'a>> {
        self.found.sort_by_key(|found| found.rank);
        let raw = self.found.iter().find(|found| found.rank == Rank::Raw);
        let tensors = raw.map_or(0, |raw| raw.entries.len());
        let at = self.found.iter().position(|found| match found.rank {
            Rank::Ema | Rank::Raw => true,
            // There may be a few numbers of an EMA alone.
            Rank::EmaLike => 2 * found.entries.len() >= tensors,
            Rank::Unknown => false,
        })?;
        let Candidate { path, entries, .. } = self.found.remove(at);
        let others = self.found.into_iter().map(|found| found.path).chain(self.lists).collect();
        Some(Found { entries, path, others })
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

/// The entries with keys that are text, the likeliest to be a state dict first. Of two equal keys the
/// last counts, as in Python. Optimisers and keys longer than [`MAX_KEY`] are left out.
fn in_order<'a>(pickle: &'a Pickle, entries: &Entries) -> Vec<(Rank, usize, &'a str, Place)> {
    let is_left_out =
        |key: &str| key.len() > MAX_KEY || key.to_ascii_lowercase().starts_with("optim");
    let named = entries.iter().filter_map(|&(key, value)| match pickle.get(key) {
        Value::Text(key) if !is_left_out(key) => Some((&**key, value)),
        _ => None,
    });
    let named: BTreeMap<&str, Place> = named.collect();
    let at = |keys: &[&str], key: &str| keys.iter().position(|known| *known == key);
    let ranked = named.into_iter().map(|(key, value)| {
        let (rank, at) = match (at(&EMA_KEYS, key), at(&RAW_KEYS, key)) {
            (Some(at), _) => (Rank::Ema, at),
            _ if is_ema_key(key) => (Rank::EmaLike, 0),
            (_, Some(at)) => (Rank::Raw, at),
            // `model_no_ema` says as much as `model`.
            _ if says_ema(key) == Some(false) => (Rank::Raw, RAW_KEYS.len()),
            _ => (Rank::Unknown, 0),
        };
        (rank, at, key, value)
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort();
    ranked
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
