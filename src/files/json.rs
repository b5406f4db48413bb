//! JSON in files: written atomically, read with the path of the field that is wrong.

use super::{read, write_atomically};
use crate::{typed, Error, Result};
use serde::de::DeserializeOwned;
use serde::Serialize;
#[cfg(feature = "pipeline")]
use std::io::ErrorKind;
use std::path::Path;

/// Writes a value as JSON, atomically.
///
/// # Errors
/// [`Error::Io`] if it cannot be written; [`Error::File`] for a value that JSON does not have.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| Error::file(path, error))?;
    write_atomically(path, &text)
}

/// Reads a value that [`write_json`] has written.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::File`] with the field if it holds something else.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read(path).map_err(|source| Error::io("read", path, source))?;
    typed::from_json(&text).map_err(|error| Error::file(path, error))
}

/// Returns what was read; `None` if there is no such file or folder. Every other error stays.
#[cfg(feature = "pipeline")]
pub(crate) fn if_there<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}
