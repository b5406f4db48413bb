//! Wall time of the steps between two logged ones, without what is done between steps.

use super::step::Search;
use crate::models::Architecture;
use crate::Result;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Timer of the steps since the last logged one.
#[derive(Debug)]
pub(super) struct StepTimer {
    started: Instant,
    /// Steps done then.
    step: u64,
    /// Time spent on evaluations, reconstructions and checkpoints since then.
    between_steps: Cell<Duration>,
}

impl StepTimer {
    /// Starts after `step` steps.
    pub(super) fn start(step: u64) -> Self {
        Self { started: Instant::now(), step, between_steps: Cell::default() }
    }

    /// Returns the mean time of a step in milliseconds after `step` steps, and starts anew.
    pub(super) fn lap(&mut self, step: u64) -> f64 {
        let ended = std::mem::replace(self, Self::start(step));
        let spent = ended.started.elapsed().saturating_sub(ended.between_steps.get());
        spent.as_secs_f64() * 1e3 / step.saturating_sub(ended.step).max(1) as f64
    }

    /// Leaves out the time since `began`.
    pub(super) fn leave_out(&self, began: Instant) {
        self.between_steps.set(self.between_steps.get() + began.elapsed());
    }
}

impl<A: Architecture> Search<A> {
    /// Returns the time at which work between two steps begins: once the steps that are queued on the device are done.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::Error::Torch) if one of them has failed.
    pub(super) fn between_steps(&self) -> Result<Instant> {
        crate::device::synchronise(self.supernet.device())?;
        Ok(Instant::now())
    }
}
