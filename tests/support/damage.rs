//! Damage to the files of a folder: flipped bits, changed JSON, checksums renewed after a change.

use super::mutation::cases_or;
use super::TestResult;
use once_for_both::Error;
use proptest::prelude::*;
use serde_json::{json, Value};
use std::path::Path;

/// Configuration of a property of `few` cases, or as many as `OFB_CASES` says.
pub fn config(few: u64) -> TestResult<ProptestConfig> {
    let cases = u32::try_from(cases_or(few)?)?;
    Ok(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) })
}

/// Writes `checksums.sfv` anew for the files that a folder has now.
pub fn renew_checksums(folder: &Path) -> TestResult {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let (name, path) = {
            let entry = entry?;
            (entry.file_name(), entry.path())
        };
        let name = name.into_string().map_err(|name| format!("{name:?}"))?;
        if name != "checksums.sfv" {
            lines.push(format!("{name} {:08X}\n", crc32fast::hash(&std::fs::read(path)?)));
        }
    }
    lines.sort();
    Ok(std::fs::write(folder.join("checksums.sfv"), lines.concat())?)
}

/// Whether libtorch found the fault, or a cause of it: the crate should have found it before.
pub fn found_by_libtorch(error: &Error) -> bool {
    match error {
        Error::Torch { .. } => true,
        Error::Resume { source, .. } => found_by_libtorch(source),
        _ => false,
    }
}

/// Largest amount of memory that this process has had, in bytes; `None` where the system does not
/// say.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// A change of one place of a JSON document.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// Where to turn at each level.
    way: Vec<prop::sample::Index>,
    depth: usize,
    change: Change,
}

#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Add(i64),
    Delete,
    Duplicate,
    Empty,
}

/// All kinds of [`Mutation`].
pub fn mutations() -> impl Strategy<Value = Mutation> {
    let values = prop::sample::select(vec![
        json!(0),
        json!(-1),
        json!(1),
        json!(65536),
        json!(1_048_576),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.5),
        json!(-0.0),
        json!(1e-300),
        json!(1e308),
        json!("NaN"),
        json!(""),
        json!(null),
        json!(true),
        json!(false),
        json!([]),
        json!({}),
        json!([1, 2]),
    ]);
    let change = prop_oneof![
        4 => values.prop_map(Change::Replace),
        2 => prop::sample::select(vec![1, -1, 2, 1 << 20]).prop_map(Change::Add),
        2 => Just(Change::Delete),
        1 => Just(Change::Duplicate),
        1 => Just(Change::Empty),
    ];
    let way = prop::collection::vec(any::<prop::sample::Index>(), 8);
    (way, 1..9usize, change).prop_map(|(way, depth, change)| Mutation { way, depth, change })
}

impl Mutation {
    /// Changes `document`; returns the place, as a JSON pointer.
    pub fn apply(&self, document: &mut Value) -> String {
        change(document, &self.way[..self.depth], &self.change)
    }
}

fn change(place: &mut Value, way: &[prop::sample::Index], with: &Change) -> String {
    let Some((turn, rest)) = way.split_first() else { return String::new() };
    let child = match place {
        Value::Array(list) if !list.is_empty() => turn.index(list.len()).to_string(),
        Value::Object(map) if !map.is_empty() => {
            map.keys().nth(turn.index(map.len())).cloned().unwrap_or_default()
        }
        _ => return String::new(),
    };
    let pointer = format!("/{child}");
    let Some(inner) = place.pointer_mut(&pointer) else { return String::new() };
    let leaf = !matches!(inner, Value::Array(list) if !list.is_empty())
        && !matches!(inner, Value::Object(map) if !map.is_empty());
    if !leaf && !rest.is_empty() {
        return pointer + &change(inner, rest, with);
    }
    match with {
        Change::Replace(value) => *inner = value.clone(),
        Change::Add(number) => {
            if let Some(value) = inner.as_i64() {
                *inner = json!(value.wrapping_add(*number));
            }
        }
        Change::Empty => {
            *inner = match inner {
                Value::Array(_) => json!([]),
                Value::Object(_) => json!({}),
                _ => json!(null),
            }
        }
        Change::Delete | Change::Duplicate => {
            let delete = matches!(with, Change::Delete);
            match place {
                Value::Array(list) => {
                    let at: usize = child.parse().unwrap_or_default();
                    let entry = list.remove(at);
                    if !delete {
                        list.insert(at, entry.clone());
                        list.insert(at, entry);
                    }
                }
                Value::Object(map) if delete => drop(map.remove(&child)),
                _ => {}
            }
        }
    }
    pointer
}
