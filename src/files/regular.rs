//! Reading of files alone: opening a pipe waits, perhaps for ever, until another process writes to it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Whether something other than a file is at `path`: a folder, a pipe, a socket or a device.
pub(crate) fn is_irregular(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

/// Error for a path at which there is something other than a file.
pub(crate) fn irregular(path: &Path) -> io::Error {
    let found = if path.is_dir() { "a folder" } else { "a pipe, socket or device" };
    io::Error::new(ErrorKind::InvalidInput, format!("got {found}, expected a file"))
}

/// Opens a file to read it.
///
/// # Errors
/// Those of the operating system; [`ErrorKind::InvalidInput`] for a folder, a pipe, a socket or a
/// device.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    match is_irregular(path) {
        true => Err(irregular(path)),
        false => File::open(path),
    }
}

/// Reads a file.
///
/// # Errors
/// Those of [`open`] and of reading.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file of UTF-8 text.
///
/// # Errors
/// Those of [`open`] and of reading; [`ErrorKind::InvalidData`] for other bytes.
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}
