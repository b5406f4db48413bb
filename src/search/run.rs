//! A run: a search trained to its end, with checkpoints, metrics and rollback.

use super::checkpoint::{Checkpoints, CHECKPOINTS};
use super::events::{Event, Listener};
use super::listeners::MetricsFile;
use super::step::Search;
use crate::batch::BatchSource;
use crate::files::{expect_own_names, is_run_name, Owner, Part};
use crate::models::Architecture;
use crate::range::INTERVAL;
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// File name of the events in a run folder.
pub const METRICS: &str = "metrics.jsonl";

/// Why training returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All optimiser steps are done.
    Finished,
    /// The step given to [`Run::train_until`] is reached.
    Reached,
    /// The stop flag was set; the state is in a checkpoint.
    Stopped,
    /// Training diverged before the step given to [`Run::train_until`], and was rolled back to a checkpoint. The files of
    /// the run lack what the caller emitted at the checkpoint's step and later, such as [`Event::Evaluated`].
    RolledBack,
}

/// A search that is trained with checkpoints, and rolled back to the last one when it diverges.
pub struct Run<'a, A: Architecture> {
    pub(super) search: &'a mut Search<A>,
    pub(super) checkpoints: Checkpoints,
    interval: u64,
    pub(super) listeners: Vec<Box<dyn Listener + 'a>>,
    stop: Option<&'a AtomicBool>,
    /// The step at which it diverged and was rolled back, until that step is passed.
    pub(super) rolled_back_at: Option<u64>,
    /// Ownership of the run folder, if there is one.
    _owner: Option<Owner>,
}

/// Refuses a folder in which no run can begin or go on. Nothing is written.
///
/// # Errors
/// [`FolderError::Foreign`](crate::error::FolderError::Foreign) if the folder or its `checkpoints/`
/// holds files of other programs and no run; [`Error::Io`] if it cannot be read.
pub(crate) fn expect_run(folder: &Path) -> Result<()> {
    let checkpoints = Checkpoints::new(folder.join(CHECKPOINTS), 1);
    if !folder.join(METRICS).is_file() && checkpoints.newest()?.is_none() {
        expect_own_names("run folder", folder, is_run_name, "one with a run")?;
    }
    checkpoints.expect_own()
}

/// Whether a stop flag is set.
fn is_set(stop: Option<&AtomicBool>) -> bool {
    stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
}

impl<A: Architecture> Search<A> {
    /// Begins a run in `folder`: events go to `metrics.jsonl`, the two newest checkpoints to
    /// `checkpoints/`, one every 100 steps.
    ///
    /// Events of an earlier run in the same folder that this search will emit again are removed.
    /// See [`build_or_resume`](super::SearchBuilder::build_or_resume) for how to resume a run.
    ///
    /// The run owns the folder until it is dropped: other processes can then read its files, but not
    /// write to it. Ownership is a lock of the operating system on the file `.lock`, which ends with
    /// the process.
    ///
    /// Of several processes that train together, rank 0 alone reads and writes the folder.
    ///
    /// # Errors
    /// [`Error::File`] if a search at step 0 is given a folder with checkpoints of later steps;
    /// [`FolderError::InUse`](crate::error::FolderError::InUse) if another process or run owns it; [`FolderError::Foreign`](crate::error::FolderError::Foreign) if it holds
    /// files of other programs and no run; [`Error::Io`] if it cannot be created or written.
    pub fn run_in(&mut self, folder: impl AsRef<Path>) -> Result<Run<'_, A>> {
        let folder = folder.as_ref();
        let checkpoints = Checkpoints::new(folder.join(CHECKPOINTS), 2);
        let opened = self.open_run(folder, &checkpoints);
        let opened = self.group().agree(opened)?;
        let run = self.run(checkpoints);
        Ok(match opened {
            None => run,
            Some((owner, metrics)) => Run { _owner: Some(owner), ..run }.on_event(metrics),
        })
    }

    /// The files of a run: events and ownership of the folder, on rank 0.
    fn open_run(
        &self,
        folder: &Path,
        checkpoints: &Checkpoints,
    ) -> Result<Option<(Owner, MetricsFile)>> {
        if !self.group().is_main() {
            return Ok(None);
        }
        checkpoints.expect_none_later(self.step, folder)?;
        expect_run(folder)?;
        let owner = Owner::claim(folder, Part::Run)?;
        checkpoints.claim()?;
        Ok(Some((owner, MetricsFile::open(folder.join(METRICS), self.step)?)))
    }

    /// Begins a run with checkpoints only.
    pub fn run(&mut self, checkpoints: Checkpoints) -> Run<'_, A> {
        Run {
            search: self,
            checkpoints,
            interval: 100,
            listeners: Vec::new(),
            stop: None,
            rolled_back_at: None,
            _owner: None,
        }
    }

    /// Trains to the end without a run folder: no checkpoint, no rollback.
    ///
    /// # Errors
    /// Those of [`step`](Self::step) and of the source;
    /// [`DistributedError::Share`](crate::error::DistributedError::Share) if the sources of ranks that train together
    /// gave unequal numbers of images, or two of them the same images.
    pub fn train(
        &mut self,
        source: &mut dyn BatchSource,
        listener: &mut dyn Listener,
    ) -> Result<()> {
        while !self.is_done() {
            let numbers = self.batch_numbers();
            let batches = numbers.map(|number| self.told(source.batch(number)));
            let batches = batches.collect::<Result<Vec<_>>>()?;
            self.any_stops(false, &batches)?;
            self.step(&batches, listener)?;
        }
        Ok(())
    }

    /// Numbers of the batches of the next optimiser step.
    fn batch_numbers(&self) -> Range<u64> {
        let accumulate = self.options.training.accumulate;
        self.step * accumulate..(self.step + 1) * accumulate
    }
}

impl<'a, A: Architecture> Run<'a, A> {
    /// Sets the optimiser steps between two checkpoints. Further ones are written at the end and
    /// when the run is stopped.
    pub fn checkpoint_every(mut self, steps: u64) -> Self {
        self.interval = steps;
        self
    }

    /// Sets how many of the newest checkpoints are kept.
    pub fn keep(mut self, checkpoints: usize) -> Self {
        self.checkpoints.keep = checkpoints.max(1);
        self
    }

    /// Adds a listener; all receive every event, in the order they were added.
    pub fn on_event(mut self, listener: impl Listener + 'a) -> Self {
        self.listeners.push(Box::new(listener));
        self
    }

    /// Stops after the current step once this flag is set, by a signal handler for example; between
    /// two batches that a step accumulates, it stops before the step.
    ///
    /// Where several processes train together, each reads its flag before a step, and all stop after that step.
    pub fn stop_when(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// The search.
    pub fn search(&self) -> &Search<A> {
        self.search
    }

    /// The search, to evaluate it between two calls of [`train_until`](Self::train_until).
    pub fn search_mut(&mut self) -> &mut Search<A> {
        self.search
    }

    /// Sends an event of the caller's, such as [`Event::Evaluated`], to all listeners.
    ///
    /// # Errors
    /// Those of the listeners, which the other ranks end with too.
    pub fn emit(&mut self, event: &Event) -> Result<()> {
        let emitted = self.listeners.on_event(event);
        self.search.told(emitted)
    }

    /// Trains to the end, or until the stop flag is set.
    ///
    /// Amid skipped steps a checkpoint is written only if the run is stopped or ends there, and no rollback goes to it: the
    /// state before them is the better one. When training diverges it is rolled back to the last other checkpoint, with
    /// an event, and those written amid skipped steps since are removed; when it diverges at the same place again, the run ends.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the rollback did not help, or there is no checkpoint;
    /// [`Error::Invalid`] for an interval of 0; [`Error::File`] for a search at step 0 beside checkpoints of later
    /// steps; those of [`Checkpoints::claim`], of the search, the
    /// source and the listeners.
    /// The last checkpoint stays complete in every case.
    pub fn train(&mut self, source: &mut dyn BatchSource) -> Result<Outcome> {
        loop {
            match self.train_until(u64::MAX, source)? {
                Outcome::RolledBack => {}
                ended => return Ok(ended),
            }
        }
    }

    /// [`train`](Self::train), but returns once `step` optimiser steps are done, and after a rollback
    /// ([`Outcome::RolledBack`]): go on from [`steps_done`](Search::steps_done).
    ///
    /// # Errors
    /// Those of [`train`](Self::train).
    pub fn train_until(&mut self, step: u64, source: &mut dyn BatchSource) -> Result<Outcome> {
        INTERVAL.check("steps between checkpoints", self.interval)?;
        self.search.group().agree(self.claim())?;
        while !self.search.is_done() {
            if self.search.step >= step {
                return Ok(Outcome::Reached);
            }
            if let Some(outcome) = self.advance(source)? {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Finished)
    }

    /// Takes ownership of the checkpoints, on rank 0.
    fn claim(&self) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        // After a rollback to the start, checkpoints of later steps are its own that could not be used.
        if self.rolled_back_at.is_none() {
            self.checkpoints.expect_none_later(self.search.step, self.checkpoints.folder())?;
        }
        self.checkpoints.claim()
    }

    /// Makes one optimiser step, with a checkpoint where one is due; returns why the run does not go on to the next step.
    fn advance(&mut self, source: &mut dyn BatchSource) -> Result<Option<Outcome>> {
        // Ranks stop together: one exchange before the step compares their images and reads their flags.
        let own_stop = self.stop.filter(|_| self.search.share().is_whole());
        let mut batches = Vec::new();
        for number in self.search.batch_numbers() {
            if !batches.is_empty() && is_set(own_stop) {
                self.checkpoint()?;
                return Ok(Some(Outcome::Stopped));
            }
            batches.push(self.search.told(source.batch(number))?);
        }
        let told = self.search.any_stops(is_set(self.stop), &batches)?;
        match self.search.step(&batches, &mut self.listeners) {
            Err(Error::Diverged { step, in_a_row, first }) => {
                self.roll_back(step, in_a_row, first)?;
                return Ok(Some(Outcome::RolledBack));
            }
            other => other?,
        }
        let (step, done) = (self.search.step, self.search.is_done());
        self.rolled_back_at = self.rolled_back_at.filter(|&at| step <= at);
        let stopped = (told || is_set(own_stop)) && !done;
        let due =
            step.is_multiple_of(self.interval) && self.search.non_finite.counts()?.in_a_row == 0;
        if stopped || done || due {
            self.checkpoint()?;
        }
        Ok(stopped.then_some(Outcome::Stopped))
    }

    /// Whether this process writes the files.
    pub(super) fn writes(&self) -> bool {
        self.search.group().is_main()
    }

    fn checkpoint(&mut self) -> Result<()> {
        let began = self.search.between_steps()?;
        let written = self.write_checkpoint();
        self.search.timer.leave_out(began);
        written
    }

    fn write_checkpoint(&mut self) -> Result<()> {
        self.search.expect_same_parameters()?;
        // Before it is written: a resumed run emits again whatever its checkpoint does not hold.
        let emitted = self.listeners.on_event(&Event::Checkpoint { step: self.search.step });
        let written = emitted.and_then(|()| match self.writes() {
            true => self.checkpoints.save(self.search).map(drop),
            false => Ok(()),
        });
        self.search.group().agree(written)
    }
}
