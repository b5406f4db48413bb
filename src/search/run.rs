//! Drives a session to its end: steps, checkpoints, guards, and stopping when asked to.

use super::checkpoint::Checkpoints;
use super::event::{Event, Guarded, Listener};
use super::method::Method;
use super::options::SearchOptions;
use super::session::Session;
use crate::data::Batch;
use crate::models::Architecture;
use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Done,
    /// The step that [`Run::drive_until`] was told is reached.
    Reached,
    /// It was asked to stop, and its state is on disk.
    Stopped,
}

type MakeMethod = Box<dyn Fn(&SearchOptions) -> Result<Method>>;

/// A session that keeps checkpoints, and goes back to the last one when training diverges.
pub struct Run<A: Architecture> {
    session: Session<A>,
    checkpoints: Checkpoints,
    interval: u64,
    method: MakeMethod,
    /// The step at which it diverged and went back; until it is passed.
    went_back_at: Option<u64>,
}

impl<A: Architecture> Run<A> {
    /// Saves `session` every `interval` steps, when it is done, and when it is stopped.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an interval of zero.
    pub fn new(session: Session<A>, checkpoints: Checkpoints, interval: u64) -> Result<Self> {
        if interval == 0 {
            return Err(Error::invalid("steps between checkpoints", "at least 1", interval));
        }
        let method = Box::new(Method::of);
        Ok(Self { session, checkpoints, interval, method, went_back_at: None })
    }

    /// Names the method of a session of one's own, for going back to a checkpoint.
    pub fn by(mut self, method: impl Fn(&SearchOptions) -> Result<Method> + 'static) -> Self {
        self.method = Box::new(method);
        self
    }

    /// The session.
    pub fn session(&self) -> &Session<A> {
        &self.session
    }

    /// The session, to evaluate or extract from.
    pub fn session_mut(&mut self) -> &mut Session<A> {
        &mut self.session
    }

    /// Gives the session back.
    pub fn into_session(self) -> Session<A> {
        self.session
    }

    /// Steps to the end, or until `stop` is set (by a signal, say). `batches` are asked for the
    /// micro-batches of a step, and again for those of steps that are done anew.
    ///
    /// A checkpoint that falls due amid steps that are not finite is left out: the state before them
    /// is the better one to go back to. When too many in a row are not finite, the run goes back to
    /// its last checkpoint, with an event; when that happens at the same place again, it ends.
    ///
    /// # Errors
    /// [`Error::Diverged`] if going back did not help, or there is nothing to go back to; those of
    /// the session, the batches and the listener. The last checkpoint stays whole in every case.
    pub fn drive(
        &mut self,
        batches: &mut dyn FnMut(u64) -> Result<Vec<Batch>>,
        stop: &AtomicBool,
        listener: &mut dyn Listener,
    ) -> Result<Ending> {
        self.drive_until(u64::MAX, batches, stop, listener)
    }

    /// Like [`drive`](Self::drive), but returns once `until` steps are done, for a measurement
    /// between.
    ///
    /// # Errors
    /// Those of [`drive`](Self::drive).
    pub fn drive_until(
        &mut self,
        until: u64,
        batches: &mut dyn FnMut(u64) -> Result<Vec<Batch>>,
        stop: &AtomicBool,
        listener: &mut dyn Listener,
    ) -> Result<Ending> {
        while !self.session.is_done() {
            if self.session.steps_done() >= until {
                return Ok(Ending::Reached);
            }
            let batches = batches(self.session.steps_done())?;
            match self.session.step(&batches, listener) {
                Err(Error::Diverged { step, in_a_row }) => {
                    self.go_back(step, in_a_row, listener)?;
                    continue;
                }
                other => other?,
            }
            let step = self.session.steps_done();
            self.went_back_at = self.went_back_at.filter(|&at| step <= at);
            let stopped = stop.load(Ordering::Relaxed) && !self.session.is_done();
            let due =
                step.is_multiple_of(self.interval) && self.session.guard.counts()?.in_a_row == 0;
            if stopped || self.session.is_done() || due {
                // Told before it is written: what a resumed run repeats, it tells again.
                listener.notice(&Event::Checkpoint { step })?;
                self.checkpoints.save(&self.session)?;
            }
            if stopped {
                return Ok(Ending::Stopped);
            }
        }
        Ok(Ending::Done)
    }

    fn go_back(&mut self, step: u64, in_a_row: u64, listener: &mut dyn Listener) -> Result<()> {
        let skipped = self.session.guard.told;
        let guard = |step, action| Event::Guard { step, skipped, in_a_row, action };
        let again = self.went_back_at.is_some();
        let device = self.session.supernet().device();
        let last = match again {
            true => None,
            false => self.checkpoints.resume_with(&self.method, device)?,
        };
        let Some(last) = last else {
            listener.notice(&guard(step, Guarded::Stopped))?;
            return Err(Error::Diverged { step, in_a_row });
        };
        self.session = last.session;
        self.went_back_at = Some(step);
        listener.notice(&guard(self.session.steps_done(), Guarded::WentBack))
    }
}
