//! Weights that the options of a run name on the hub.

use crate::import::hub;
use crate::Result;
use std::path::Path;
use toml::{Table, Value};

/// Puts the paths of weights in the cache in place of their names on the hub.
pub(super) fn fetch(table: &mut Table) -> Result<()> {
    fetch_one(table)?;
    match table.get_mut("teacher") {
        Some(Value::Table(teacher)) => fetch_one(teacher),
        _ => Ok(()),
    }
}

fn fetch_one(table: &mut Table) -> Result<()> {
    if let Some(Value::String(path)) = table.get_mut("weights") {
        *path = hub::local(Path::new(path))?.display().to_string();
    }
    Ok(())
}
