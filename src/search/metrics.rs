//! metrics.jsonl: one object per event.

use super::{Event, Listener};
use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Appends every event to a file as one line of JSON.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens a file for appending; what an earlier run wrote at or after `step` is taken out, so
    /// that a resumed run leaves the file an uninterrupted one would.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or written.
    pub fn open(path: impl Into<PathBuf>, step: u64) -> Result<Self> {
        let path = path.into();
        let kept = lines_before(&path, step)?;
        crate::files::write_atomically(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|source| Error::io("open", &path, source))?;
        Ok(Self { path, file })
    }
}

impl Listener for MetricsFile {
    fn notice(&mut self, event: &Event) -> Result<()> {
        let mut line =
            serde_json::to_string(event).map_err(|error| Error::file(&self.path, error))?;
        line.push('\n');
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|source| Error::io("write", &self.path, source))
    }
}

/// Whole lines of an older run whose step is before `step`.
fn lines_before(path: &Path, step: u64) -> Result<String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(source) => return Err(Error::io("read", path, source)),
    };
    let earlier = |line: &&str| {
        let value = serde_json::from_str::<serde_json::Value>(line).ok();
        value.and_then(|value| value.get("step")?.as_u64()).is_some_and(|at| at < step)
    };
    Ok(text.lines().filter(earlier).flat_map(|line| [line, "\n"]).collect())
}
