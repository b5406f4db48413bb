//! The file of rows: JSON lines, which are read to continue and appended to.

use crate::row::Row;
use crate::AnyError;
use fs4::FileExt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Begins every row.
const START: &str = "{\"method\":";

/// The file of `--json`.
pub struct RowFile {
    path: PathBuf,
    file: File,
}

impl RowFile {
    /// Opens the file, which is created if it is not there, and returns its rows. A file with other
    /// lines, or one that cannot be written, is refused; a last row that a killed process has left
    /// half written is removed.
    pub fn open(path: &Path) -> Result<(Self, Vec<Row>), AnyError> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let refused = |error| format!("--json {}: cannot be written: {error}", path.display());
        let own = Self { path: path.into(), file: file.map_err(refused)? };
        let rows = own.locked(|file| own.read(file))?;
        Ok((own, rows))
    }

    /// Appends a row; one that cannot be written whole is removed again.
    pub fn append(&self, row: &Row) -> Result<(), AnyError> {
        let line = serde_json::to_string(row)? + "\n";
        self.locked(|file| {
            let length = file.metadata().map_err(|error| self.unwritable(error))?.len();
            let written = (&*file).write_all(line.as_bytes());
            written.or_else(|error| {
                file.set_len(length).map_err(|error| self.unwritable(error))?;
                Err(self.unwritable(error))
            })
        })
    }

    fn read(&self, mut file: &File) -> Result<Vec<Row>, AnyError> {
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| self.refused(error))?;
        let whole = text.rfind('\n').map_or(0, |last| last + 1);
        let last = &text[whole..];
        if serde_json::from_str::<Row>(last).is_ok() {
            file.write_all(b"\n").map_err(|error| self.unwritable(error))?;
        } else if last.starts_with(START) {
            file.set_len(whole as u64).map_err(|error| self.unwritable(error))?;
            text.truncate(whole);
        }
        let row = |(at, line)| {
            let expected = "expected a row of compare; give another file";
            let reason = |error| format!("line {}: got {error}, {expected}", at + 1);
            serde_json::from_str(line).map_err(|error| self.refused(reason(error)))
        };
        text.lines().enumerate().map(row).collect()
    }

    /// Calls `act` while no other process has the file locked, where the file system has locks.
    fn locked<T>(&self, act: impl FnOnce(&File) -> Result<T, AnyError>) -> Result<T, AnyError> {
        let locked = FileExt::lock(&self.file);
        let value = act(&self.file);
        locked.and_then(|()| FileExt::unlock(&self.file)).ok();
        value
    }

    fn refused(&self, reason: impl std::fmt::Display) -> AnyError {
        format!("--json {}: {reason}", self.path.display()).into()
    }

    fn unwritable(&self, error: std::io::Error) -> AnyError {
        self.refused(format!("cannot be written: {error}"))
    }
}
