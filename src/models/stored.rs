//! Architectures as JSON, which has neither NaN nor infinities.

use super::Architecture;
use crate::typed::{first_difference, from_value};
use crate::{Error, Result};
use serde_json::Value;

/// Checks that an architecture can be read back from its JSON, as checkpoints and artifacts store it.
///
/// # Errors
/// [`Error::Invalid`] naming the field that is not read, or comes back with another value.
pub(crate) fn expect_readable<A: Architecture>(architecture: &A) -> Result<()> {
    let written = json(architecture)?;
    let read: A = from_value(written.clone()).map_err(|fault| {
        let expected = "one that is read back from its JSON, which has neither NaN nor infinities";
        Error::invalid("architecture", expected, fault)
    })?;
    let again = json(&read)?;
    if again == written {
        return Ok(());
    }
    let (field, expected, actual) = first_difference("architecture", &written, &again);
    Err(Error::invalid(format!("{field} read back from its JSON"), expected, actual))
}

fn json<A: Architecture>(architecture: &A) -> Result<Value> {
    serde_json::to_value(architecture)
        .map_err(|error| Error::invalid("architecture", "serialisable as JSON", error))
}
