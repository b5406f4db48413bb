//! metrics.jsonl: one object per event.

use super::{Event, Guarded, Listener};
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
    /// Opens a file for appending; what an earlier run wrote after its first `step` steps is
    /// taken out, so that a resumed run leaves the events an uninterrupted one would.
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
    /// Appends the event. Where the run goes back to a checkpoint, so does the file.
    fn notice(&mut self, event: &Event) -> Result<()> {
        if let Event::Guard { step, action: Guarded::WentBack, .. } = event {
            *self = Self::open(std::mem::take(&mut self.path), *step)?;
        }
        let mut line =
            serde_json::to_string(event).map_err(|error| Error::file(&self.path, error))?;
        line.push('\n');
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|source| Error::io("write", &self.path, source))
    }
}

/// The events of a file; a last line without its end was torn when the run was killed, and is passed
/// over.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::File`] naming the first line that is no event.
pub fn read_events(path: &Path) -> Result<Vec<Event>> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
    let event = |(at, line)| {
        serde_json::from_str(line)
            .map_err(|error| Error::file(path, format!("line {}: {error}", at + 1)))
    };
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().enumerate().map(event).collect()
}

/// Whole lines of an older run that a run going on after `step` steps does not write again.
fn lines_before(path: &Path, step: u64) -> Result<String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(source) => return Err(Error::io("read", path, source)),
    };
    // A line that is no event was torn when the run was stopped.
    let earlier =
        |line: &&str| serde_json::from_str::<Event>(line).is_ok_and(|event| event.is_before(step));
    Ok(text.lines().filter(earlier).flat_map(|line| [line, "\n"]).collect())
}
