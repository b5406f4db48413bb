//! The first difference of two values, by name.

use super::options::SearchOptions;
use crate::typed::first_difference;
use crate::{Error, Result};
use serde_json::Value;

/// Refuses options that are not those of a checkpoint, naming the first that differs.
pub(super) fn expect_options(given: &SearchOptions, saved: &SearchOptions) -> Result<()> {
    if given == saved {
        return Ok(());
    }
    let lengths = |options: &SearchOptions| serde_json::json!({ "total_steps": options.total_steps, "search_steps": options.search_steps });
    // The lengths first: other options follow from them.
    expect_same("options", &lengths(given), &lengths(saved))?;
    let value = |options: &SearchOptions| serde_json::to_value(options).unwrap_or(Value::Null);
    expect_same("options", &value(given), &value(saved))
}

/// Refuses values that are not those of a checkpoint, naming the first that differs.
pub(super) fn expect_same(name: &str, given: &Value, saved: &Value) -> Result<()> {
    if given == saved {
        return Ok(());
    }
    let (name, given, saved) = first_difference(name, given, saved);
    let expected = format!("{saved}, as in the checkpoint; give the same, or another run folder");
    Err(Error::invalid(name.trim_start_matches('.'), expected, given))
}

/// Refuses an architecture and search space that are not those of a checkpoint, naming the first field that differs.
///
/// Whether the architecture declares a dimension removable is no part of the search: that the search may remove it is in
/// its candidates. Checkpoints of versions before the declaration do not have it.
pub(super) fn expect_same_origin(given: &Value, saved: &Value) -> Result<()> {
    expect_same("", &without_declarations(given), &without_declarations(saved))
}

/// Leaves out `space.dimensions[…].removable`.
fn without_declarations(origin: &Value) -> Value {
    let mut own = origin.clone();
    let dimensions = own.pointer_mut("/space/dimensions").and_then(Value::as_array_mut);
    for dimension in dimensions.into_iter().flatten().filter_map(Value::as_object_mut) {
        dimension.remove("removable");
    }
    own
}
