//! Weights that the options of a run name on the hub.

use super::flags::path_value;
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
    if let Some(Value::String(path)) = table.get("weights") {
        let local = path_value("weights", &hub::local(Path::new(path))?)?;
        table.insert("weights".into(), local);
    }
    Ok(())
}
