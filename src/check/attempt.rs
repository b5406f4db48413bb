//! Calls of the user's network, whose panics and errors are findings.

use crate::error::{in_words, Fault};
use crate::space::{Dimension, Size};
use crate::{Error, Result};
use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Calls a part of the network at a smaller size. A panic or an error is returned as a fault of the
/// dimension; [`Error::Unsupported`] stays an error.
pub(super) fn attempt<T>(
    call: &'static str,
    dimension: &Dimension,
    size: Size,
    work: impl FnOnce() -> Result<T>,
) -> Result<Result<T, Fault>> {
    let reason = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(Ok(value)),
        Ok(Err(error @ Error::Unsupported { .. })) => return Err(error),
        Ok(Err(error)) => format!("the error {:?}", one_line(&in_words(&error))),
        Err(panic) => format!("the panic {:?}", message(&*panic)),
    };
    let dimension = dimension.name.clone();
    Ok(Err(Fault::Failed { call, dimension, heads: size.heads, channels: size.channels, reason }))
}

/// Returns the result of `work`, with a panic of the network as an error.
pub(super) fn without_panic<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let (name, expected) = ("network in the self-check", "no panic in build or forward");
        Err(Error::invalid(name, expected, format!("the panic {:?}", message(&*panic))))
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    one_line(text.unwrap_or("of no text"))
}

/// Errors of libtorch have a stack trace below their first line.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().into()
}
