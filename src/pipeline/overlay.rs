//! Options over options: merged TOML tables, and values set in JSON objects.

use super::config::expect_finite;
use super::Settings;
use crate::error::PipelineError;
use crate::search::SearchOptions;
use crate::{typed, Error, Result};
use serde_json::{Map, Value};
use toml::Table;

/// Merges `above` into `below`: tables are merged, everything else is replaced. `epochs` replaces
/// `steps`, and the other way round.
pub(super) fn merge(below: &mut Table, above: Table) {
    lay(below, above, true);
}

/// [`merge`], in which `epochs` stand beside `steps`: two settings of one length contradict each
/// other.
pub(super) fn join(below: &mut Table, above: Table) {
    lay(below, above, false);
}

fn lay(below: &mut Table, above: Table, one_length: bool) {
    for [one, other] in [["epochs", "steps"], ["steps", "epochs"]] {
        if one_length && above.contains_key(one) && !above.contains_key(other) {
            below.remove(other);
        }
    }
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => {
                lay(below, above, one_length);
            }
            (_, value) => drop(below.insert(name, value)),
        }
    }
}

/// Returns the table of a dotted name: `search.share` and 0.7 give `{search: {share: 0.7}}`.
pub(super) fn nested(name: &str, value: toml::Value) -> Table {
    let wrap = |inner, part: &str| -> toml::Value {
        toml::Value::Table(Table::from_iter([(part.to_string(), inner)]))
    };
    match name.split('.').rev().fold(value, wrap) {
        toml::Value::Table(table) => table,
        _ => Table::new(),
    }
}

/// Parses a setting `NAME=VALUE`, such as `search.share=0.7`, into nested options. A value that is
/// not TOML is a string: `device=cpu` needs no quotes.
///
/// # Errors
/// [`PipelineError::Options`] if there is no `=`, or the name is not a dotted key.
pub fn parse_setting(text: &str) -> Result<Settings> {
    let table = setting(text)?;
    expect_finite(&table)?;
    Ok(to_settings(table)?)
}

/// Converts a TOML table to JSON.
fn to_settings(table: Table) -> Result<Settings, PipelineError> {
    let value = serde_json::to_value(table);
    value
        .and_then(serde_json::from_value)
        .map_err(|error| PipelineError::options("options of the run", error))
}

pub(super) fn setting(text: &str) -> Result<Table> {
    let refused = |reason: String| PipelineError::options(format!("setting {text}"), reason);
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| refused("got no =, expected NAME=VALUE, such as search.share=0.7".into()))?;
    let quoted = || toml::from_str(&format!("{name} = {}", Value::from(value.trim())));
    let parsed = toml::from_str(&format!("{name} = {value}")).or_else(|_| quoted());
    Ok(parsed.map_err(|error: toml::de::Error| refused(error.to_string()))?)
}

/// Returns `options` with the fields that `own` sets; each has to exist. The string `none` stands for null,
/// which TOML does not have. `under` is the name of the options in errors.
///
/// ```
/// use once_for_both::pipeline::{overlaid, parse_setting};
/// use once_for_both::search::SearchOptions;
///
/// let own = parse_setting("pruning.fade_out_steps=20")?;
/// let options = overlaid(&SearchOptions::new(500, 300), &own, "options")?;
/// assert_eq!(options.pruning.fade_out_steps, 20);
/// # Ok::<(), once_for_both::Error>(())
/// ```
///
/// # Errors
/// [`Error::Unknown`] for a field that the options do not have, [`PipelineError::Options`] for a value of
/// another type.
pub fn overlaid(options: &SearchOptions, own: &Settings, under: &str) -> Result<SearchOptions> {
    let all = serde_json::to_value(options);
    let mut all = all.map_err(|error| PipelineError::options(under, error))?;
    overlay(&mut all, own.clone().into(), under)?;
    Ok(typed::from_value(all).map_err(|fault| PipelineError::field(under, &fault))?)
}

/// Refuses options that follow from others: `owned` has their names, each with what to set instead. `under` is
/// the name of the options in errors.
///
/// # Errors
/// [`Error::Invalid`] for the first of them that `own` sets.
pub fn expect_free(own: &Settings, owned: &[(&str, &str)], under: &str) -> Result<()> {
    let own = Value::from(own.clone());
    for (name, instead) in owned {
        if let Some(value) = own.pointer(&format!("/{}", name.replace('.', "/"))) {
            let expected = format!("none here; set {instead}");
            return Err(Error::invalid(format!("{under}.{name}"), expected, value));
        }
    }
    Ok(())
}

/// Sets fields of a JSON object to those of `above`.
fn overlay(below: &mut Value, above: Value, under: &str) -> Result<()> {
    if above == "none" {
        *below = Value::Null;
        return Ok(());
    }
    let Value::Object(above) = above else {
        *below = above;
        return Ok(());
    };
    // An enum variant with fields, {"ramp": {…}}, is replaced as a whole; so are null and words.
    let variant = |of: &Map<String, Value>| of.len() == 1 && above.len() == 1;
    let other = |of: &Map<String, Value>| above.keys().all(|name| !of.contains_key(name));
    if below.as_object().is_none_or(|below| variant(below) && other(below)) {
        *below = Value::Object(above);
        return Ok(());
    }
    for (name, value) in above {
        let empty = Map::new();
        let known = below.as_object().unwrap_or(&empty);
        if !known.contains_key(&name) {
            return Err(Error::unknown("option", format!("{under}.{name}"), known.keys()));
        }
        overlay(&mut below[&name], value, &format!("{under}.{name}"))?;
    }
    Ok(())
}
