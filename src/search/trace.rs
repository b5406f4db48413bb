//! Events as records of the `tracing` crate.

use super::event::{Event, Listener};
use crate::Result;

/// Hands every event on to whoever collects `tracing` records: logged steps at level debug,
/// guards as warnings, everything else at level info. Without a collector nothing happens.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingListener;

impl Listener for TracingListener {
    fn notice(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(m) => tracing::debug!(
                step = m.step,
                phase = ?m.phase,
                task = m.loss.task,
                one_hot = m.loss.one_hot,
                budget = m.loss.budget,
                reconstruction = m.loss.reconstruction,
                macs_expected = m.macs_expected,
                macs_active = m.macs_active,
                step_ms = m.step_ms,
                "step"
            ),
            Event::Cut(c) => tracing::info!(
                step = c.step,
                dimensions = c.units.len(),
                macs = c.macs,
                total_jump = c.total_jump,
                logit_scale = c.logit_scale,
                "cut"
            ),
            Event::Decided { step, dimension, heads, channels } => {
                tracing::info!(step, dimension, heads, channels, "decided");
            }
            Event::Finished(f) => {
                tracing::info!(step = f.step, projected = f.projected, costs = ?f.costs, "finished");
            }
            Event::Guard { step, skipped, in_a_row, action } => {
                tracing::warn!(step, skipped, in_a_row, ?action, "guard");
            }
            Event::Checkpoint { step } => tracing::info!(step, "checkpoint"),
            Event::Evaluated { step, top1 } => tracing::info!(step, top1, "evaluated"),
        }
        Ok(())
    }
}
