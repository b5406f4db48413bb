//! The scalars of a run for TensorBoard.

mod record;

use crate::protobuf::Message;
use crate::search::{Event, Listener, NonFiniteAction, StepMetrics};
use crate::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

// Fields of tensorflow.Event.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;
// Of SessionLog, Summary and Summary.Value.
const STATUS: u64 = 1;
const START: i64 = 1;
const VALUE: u64 = 1;
const TAG: u64 = 1;
const SIMPLE_VALUE: u64 = 2;

/// Writes logged steps and measurements into an event file of TensorBoard.
///
/// Scalars: `loss/task` and the other losses, `macs/expected`, `macs/active`, `lambda`,
/// `mask_ratio`, `lr`, `step_ms`, `top1`, and `entropy/NAME` and `expected/NAME` of every dimension
/// that is searched.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: File,
}

impl TensorBoard {
    /// A new event file in `folder`, which is made if it is not there, for a run that goes on
    /// after `step` steps: what earlier files of the folder have from there on is no longer shown.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or the file cannot be written.
    pub fn create(folder: impl AsRef<Path>, step: u64) -> Result<Self> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        let (path, file) = new_file(folder)?;
        let mut board = Self { path, file };
        board.write(dated().text(FILE_VERSION, "brain.Event:2"))?;
        board.start(step)?;
        Ok(board)
    }

    /// The event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says that the run goes on after `step` steps: TensorBoard forgets later ones.
    fn start(&mut self, step: u64) -> Result<()> {
        let start = Message::default().int(STATUS, START);
        self.write(dated().int(STEP, step as i64).message(SESSION_LOG, &start))
    }

    fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) -> Result<()> {
        let summary = scalars.iter().fold(Message::default(), |summary, (tag, value)| {
            let value = Message::default().text(TAG, tag).float(SIMPLE_VALUE, *value as f32);
            summary.message(VALUE, &value)
        });
        self.write(dated().int(STEP, step as i64).message(SUMMARY, &summary))
    }

    fn write(&mut self, event: Message) -> Result<()> {
        let record = record::framed(&event.into_bytes());
        self.file.write_all(&record).map_err(|source| Error::io("write", &self.path, source))
    }
}

impl Listener for TensorBoard {
    /// Writes the scalars of the event. Where the run goes back to a checkpoint, so does TensorBoard.
    fn on_event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(metrics) => self.scalars(metrics.step, &scalars_of(metrics)),
            Event::Evaluated { step, top1 } => self.scalars(*step, &[("top1".into(), *top1)]),
            Event::NonFinite { step, action: NonFiniteAction::RolledBack, .. } => self.start(*step),
            _ => Ok(()),
        }
    }
}

fn scalars_of(metrics: &StepMetrics) -> Vec<(String, f64)> {
    let loss = &metrics.loss;
    let named = [
        ("loss/task", loss.task),
        ("loss/one_hot", loss.one_hot),
        ("loss/budget", loss.budget),
        ("loss/reconstruction", loss.reconstruction),
        ("loss/total", loss.total),
        ("macs/expected", metrics.macs_expected),
        ("macs/active", metrics.macs_current),
        ("lambda", metrics.lambda),
        ("mask_ratio", metrics.mask_ratio),
        ("lr", metrics.lr),
        ("step_ms", metrics.step_ms),
    ];
    let mut scalars: Vec<_> = named.map(|(tag, value)| (tag.to_string(), value)).into();
    for (name, dimension) in &metrics.dimensions {
        scalars.push((format!("entropy/{name}"), dimension.entropy));
        scalars.push((format!("expected/{name}"), dimension.expected));
    }
    scalars
}

/// An event of now.
fn dated() -> Message {
    Message::default().double(WALL_TIME, since_epoch().as_secs_f64())
}

fn since_epoch() -> std::time::Duration {
    // A clock before 1970 is no reason to stop a run.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A file nobody has made yet. TensorBoard reads those of a folder in the order of their names.
fn new_file(folder: &Path) -> Result<(PathBuf, File)> {
    loop {
        let now = since_epoch();
        let (seconds, nanos) = (now.as_secs(), now.subsec_nanos());
        let name = format!("events.out.tfevents.{seconds:010}.{nanos:09}.once-for-both");
        let path = folder.join(name);
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                std::thread::yield_now();
            }
            Err(source) => return Err(Error::io("create", path, source)),
        }
    }
}
