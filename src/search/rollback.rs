//! The rollback of a run that has diverged, to its last checkpoint.

use super::checkpoint::Last;
use super::events::{Event, Listener, NonFiniteAction};
use super::run::Run;
use super::step::Search;
use crate::error::in_words;
use crate::models::Architecture;
use crate::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

impl<A: Architecture> Run<'_, A> {
    /// Returns the last checkpoint: its search on every rank, and on rank 0 the newer ones that cannot be used.
    fn last_checkpoint(&self) -> Result<Last<A>> {
        let group = Arc::clone(&self.search.group);
        let read = match self.writes() {
            true => self.checkpoints.newest_of(self.search),
            false => Ok(Last::none()),
        };
        let last = group.agree(read)?;
        if group.world_size() == 1 || !group.main_says(last.search.is_some())? {
            return Ok(last);
        }
        let (components, device) = (&self.search.components, self.search.supernet.device());
        let search = Some(Search::from_main(last.search, components, device, &group)?);
        Ok(Last { search, ..last })
    }

    /// Goes back to the last checkpoint after a divergence at a step; ends the run where that did not help, or there is
    /// none.
    pub(super) fn roll_back(&mut self, step: u64, in_a_row: u64, first: Vec<String>) -> Result<()> {
        let Last { search, unusable, amid_skipped_steps } = match self.rolled_back_at {
            Some(_) => Last::none(),
            None => self.last_checkpoint()?,
        };
        let words =
            |(path, reason): &(PathBuf, Error)| format!("{}: {}", path.display(), in_words(reason));
        let unusable: Vec<String> = unusable.iter().map(words).collect();
        let skipped = self.search.non_finite.reported;
        let event = |step, action, first| Event::NonFinite {
            step,
            skipped,
            in_a_row,
            action,
            first,
            unusable,
        };
        let Some(mut last) = search else {
            self.emit_together(&event(step, NonFiniteAction::Stopped, first.clone()))?;
            return Err(Error::Diverged { step, in_a_row, first });
        };
        // A resumed run would begin at them.
        let discarded = self.checkpoints.discard(&amid_skipped_steps);
        self.search.group().agree(discarded)?;
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
