//! Ready listeners: events as JSON lines, events as `tracing` records.

use super::events::{Event, Listener, NonFiniteAction};
use crate::error::FolderError;
use crate::files::Appended;
use crate::{Error, Result};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// Appends every event to a file as one line of JSON.
#[derive(Debug)]
pub struct MetricsFile {
    file: Appended,
}

impl MetricsFile {
    /// Opens a file for appending. Events that a search resumed after `step` steps emits again are
    /// removed, so the file of a resumed run equals that of an uninterrupted one. So are damaged
    /// lines, as a killed run may leave them.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or written; [`FolderError::Foreign`] if its first
    /// line is not an event: it is then a file of another program, and unchanged.
    pub fn open(path: impl Into<PathBuf>, step: u64) -> Result<Self> {
        let path = path.into();
        let kept = lines_before(&path, step)?;
        crate::files::write_atomically(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|source| Error::io("open", &path, source))?;
        Ok(Self { file: Appended::new(path, file)? })
    }
}

impl Listener for MetricsFile {
    /// Appends the event. At a rollback, removes the events that will be emitted again first.
    fn on_event(&mut self, event: &Event) -> Result<()> {
        if let Event::NonFinite { step, action: NonFiniteAction::RolledBack, .. } = event {
            *self = Self::open(self.file.path(), *step)?;
        }
        let mut line =
            serde_json::to_string(event).map_err(|error| Error::file(self.file.path(), error))?;
        line.push('\n');
        self.file.append(line.as_bytes())
    }
}

/// Reads the events of a file. An incomplete last line, as a killed run leaves it, is ignored. A number that was
/// not finite when it was written is NaN.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::File`] naming the first line that is no event.
pub fn read_events(path: &Path) -> Result<Vec<Event>> {
    let text =
        crate::files::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
    let event = |(at, line)| {
        serde_json::from_str(line)
            .map_err(|error| Error::file(path, format!("line {}: {error}", at + 1)))
    };
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().enumerate().map(event).collect()
}

/// Lines of an earlier run that a search resumed after `step` steps does not emit again.
fn lines_before(path: &Path, step: u64) -> Result<String> {
    let text = match crate::files::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(source) => return Err(Error::io("read", path, source)),
    };
    let is_event = |line: &str| serde_json::from_str::<Event>(line).is_ok();
    if let Some(first) = text.lines().next().filter(|first| !is_event(first)) {
        // Killed while it wrote its first event: an incomplete line alone, or zeros after a power failure.
        if text.contains('\n') || !first.starts_with(['{', '\0']) {
            let found = "one whose first line is not an event of a run".into();
            let (path, expected) = (path.into(), "nothing there, or events of a run".into());
            return Err(FolderError::Foreign { what: "events file", path, found, expected }.into());
        }
    }
    // A further line that is no event is the incomplete last line of a killed run.
    let earlier =
        |line: &&str| serde_json::from_str::<Event>(line).is_ok_and(|event| event.is_before(step));
    Ok(text.lines().filter(earlier).flat_map(|line| [line, "\n"]).collect())
}

/// Emits every event as a `tracing` record: logged steps at level debug, non-finite steps as
/// warnings, all others at level info.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingListener;

impl Listener for TracingListener {
    fn on_event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(m) => tracing::debug!(
                step = m.step,
                phase = ?m.phase,
                task = m.loss.task,
                one_hot = m.loss.one_hot,
                budget = m.loss.budget,
                reconstruction = m.loss.reconstruction,
                macs_expected = m.macs_expected,
                macs_current = m.macs_current,
                step_ms = m.step_ms,
                "step"
            ),
            Event::Pruned(c) => tracing::info!(
                step = c.step,
                dimensions = c.units.len(),
                macs = c.macs,
                total_jump = c.total_jump,
                logit_scale = c.logit_scale,
                "pruned"
            ),
            Event::Decided { step, dimension, heads, channels } => {
                tracing::info!(step, dimension, heads, channels, "decided");
            }
            Event::Latency(c) => tracing::info!(
                step = c.step,
                asked_ms = c.asked_ms,
                predicted_ms = c.predicted_ms,
                measured_ms = c.measured.map(|own| own.ms),
                outcome = %c.outcome,
                "latency"
            ),
            Event::Finished(f) => {
                tracing::info!(step = f.step, projected = f.projected, costs = ?f.costs, "finished");
            }
            Event::NonFinite { step, skipped, in_a_row, action, first, unusable } => {
                tracing::warn!(step, skipped, in_a_row, ?action, ?first, ?unusable, "non_finite");
            }
            Event::Checkpoint { step } => tracing::info!(step, "checkpoint"),
            Event::Evaluated { step, top1 } => tracing::info!(step, top1, "evaluated"),
        }
        Ok(())
    }
}
