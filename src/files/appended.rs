//! Files that records are appended to.

use crate::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// File that whole records are appended to: one that cannot be written completely is removed again.
#[derive(Debug)]
pub(crate) struct Appended {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Appended {
    /// Takes a file that is open for appending.
    ///
    /// # Errors
    /// [`Error::Io`] if its length cannot be read.
    pub(crate) fn new(path: PathBuf, file: File) -> Result<Self> {
        let metadata = file.metadata().map_err(|source| Error::io("read", &path, source))?;
        Ok(Self { path, file, length: metadata.len() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written, because the disk is full for example; the file is then
    /// as before.
    pub(crate) fn append(&mut self, record: &[u8]) -> Result<()> {
        if let Err(source) = self.file.write_all(record) {
            // The first error is reported, not one of the removal.
            let _ = self.file.set_len(self.length);
            return Err(Error::io("write", &self.path, source));
        }
        self.length += record.len() as u64;
        Ok(())
    }
}
