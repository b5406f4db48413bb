//! The rollback of a run that has diverged, to its last checkpoint.

use super::events::{Event, Listener, NonFiniteAction};
use super::run::Run;
use super::step::Search;
use crate::error::in_words;
use crate::models::Architecture;
use crate::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

impl<A: Architecture> Run<'_, A> {
    /// Returns the search of its last checkpoint, on every rank, `None` where there is none; and on rank 0 the newer
    /// checkpoints that cannot be used.
    fn last_checkpoint(&self) -> Result<(Option<Search<A>>, Vec<String>)> {
        let group = Arc::clone(&self.search.group);
        let read = match self.writes() {
            true => self.checkpoints.newest_of(self.search),
            false => Ok((None, Vec::new())),
        };
        let (own, skipped) = group.agree(read)?;
        let words =
            |(path, reason): &(PathBuf, Error)| format!("{}: {}", path.display(), in_words(reason));
        let skipped = skipped.iter().map(words).collect();
        if group.world_size() == 1 {
            return Ok((own, skipped));
        }
        if !group.main_says(own.is_some())? {
            return Ok((None, skipped));
        }
        let (components, device) = (&self.search.components, self.search.supernet.device());
        let last = Search::from_main(own, components, device, &group)?;
        Ok((Some(last), skipped))
    }

    /// Goes back to the last checkpoint after a divergence at a step; ends the run where that did not help, or there is
    /// none.
    pub(super) fn roll_back(&mut self, step: u64, in_a_row: u64, first: Vec<String>) -> Result<()> {
        let (last, unusable) = match self.rolled_back_at {
            Some(_) => (None, Vec::new()),
            None => self.last_checkpoint()?,
        };
        let skipped = self.search.non_finite.reported;
        let event = |step, action, first| Event::NonFinite {
            step,
            skipped,
            in_a_row,
            action,
            first,
            unusable,
        };
        let Some(mut last) = last else {
            self.emit_together(&event(step, NonFiniteAction::Stopped, first.clone()))?;
            return Err(Error::Diverged { step, in_a_row, first });
        };
        last.measure_with_meter_of(self.search);
        *self.search = last;
        self.rolled_back_at = Some(step);
        self.emit_together(&event(self.search.step, NonFiniteAction::RolledBack, first))
    }

    /// Sends an event that all ranks have at once to the listeners; all ranks end if those of one fail.
    fn emit_together(&mut self, event: &Event) -> Result<()> {
        let emitted = self.listeners.on_event(event);
        self.search.group().agree(emitted)
    }
}
