//! Event files of TensorBoard with the scalars of a run.

use crate::files::Appended;
use crate::protobuf::Message;
use crate::search::{Event, Listener, NonFiniteAction, StepMetrics};
use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

// Field numbers of tensorflow.Event.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;
// Field numbers and values of SessionLog, Summary and Summary.Value.
const STATUS: u64 = 1;
const START: i64 = 1;
const VALUE: u64 = 1;
const TAG: u64 = 1;
const SIMPLE_VALUE: u64 = 2;

/// Writer of a TensorBoard event file: a [`Listener`] that records logged steps and evaluations.
///
/// Tags of the scalars: `loss/task`, `loss/one_hot`, `loss/budget`, `loss/reconstruction` and
/// `loss/total`; `macs/expected` (MACs at the expected sizes) and `macs/current` (MACs at the
/// present sizes); `lambda`, `mask_ratio`, `lr`, `step_ms`, `top1`; and `entropy/NAME` and
/// `expected_size/NAME` of every dimension under search.
#[derive(Debug)]
pub struct TensorBoard {
    file: Appended,
}

impl TensorBoard {
    /// Creates an event file in `folder`, and the folder if it does not exist, for a run that has
    /// done `step` optimiser steps: 0 for a new run.
    ///
    /// TensorBoard then ignores the points that earlier event files of the folder have at `step`
    /// and later.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or the file cannot be written.
    pub fn create(folder: impl AsRef<Path>, step: u64) -> Result<Self> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        let (path, file) = new_file(folder)?;
        let mut board = Self { file: Appended::new(path, file)? };
        let begun = board.write(dated().text(FILE_VERSION, "brain.Event:2"));
        if let Err(error) = begun.and_then(|()| board.start(step)) {
            // The first error is reported, not one of the removal.
            let _ = std::fs::remove_file(board.path());
            return Err(error);
        }
        Ok(board)
    }

    /// Path of the event file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Records a session start, upon which TensorBoard discards points at `step` and later.
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
        self.file.append(&framed(&event.into_bytes()))
    }
}

impl Listener for TensorBoard {
    /// Writes the scalars of the event. After a rollback TensorBoard discards the points since the
    /// checkpoint.
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
        ("macs/current", metrics.macs_current),
        ("lambda", metrics.lambda),
        ("mask_ratio", metrics.mask_ratio),
        ("lr", metrics.lr),
        ("step_ms", metrics.step_ms),
    ];
    let mut scalars: Vec<_> = named.map(|(tag, value)| (tag.to_string(), value)).into();
    for (name, dimension) in &metrics.dimensions {
        scalars.push((format!("entropy/{name}"), dimension.entropy));
        scalars.push((format!("expected_size/{name}"), dimension.expected));
    }
    scalars
}

/// Begins an event with the present wall time.
fn dated() -> Message {
    Message::default().double(WALL_TIME, since_epoch().as_secs_f64())
}

fn since_epoch() -> std::time::Duration {
    // A clock set before 1970 gives 0.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Creates a file with a unique name. Names sort by time, which is the order TensorBoard reads in.
fn new_file(folder: &Path) -> Result<(PathBuf, File)> {
    loop {
        let now = since_epoch();
        let (seconds, nanos) = (now.as_secs(), now.subsec_nanos());
        let name = format!("events.out.tfevents.{seconds:010}.{nanos:09}.once-for-both");
        let path = folder.join(name);
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                std::thread::yield_now();
            }
            Err(source) => return Err(Error::io("create", path, source)),
        }
    }
}

/// Frames bytes as a TFRecord: their length, its checksum, the bytes, their checksum.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(bytes);
    record.extend(masked_crc(bytes).to_le_bytes());
    record
}

/// CRC-32C, rotated and offset as TFRecord requires.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
