//! Events of a search, and who receives them. The library never prints.

use super::latency_check::LatencyCheck;
use crate::Result;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

/// Reads a number; null, as which JSON has NaN and infinities, is NaN.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Phase of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Scores are learned, and α where it decides ([`Decisions::Learned`](super::Decisions::Learned)); units are pruned.
    Search,
    /// Every dimension is decided, or there is none.
    Finetune,
}

/// Losses of a step.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Losses {
    /// Loss of the task, mixed with the distillation loss where there is a teacher.
    #[serde(deserialize_with = "number")]
    pub task: f64,
    /// Σ over dimensions of weight × one-hot loss.
    #[serde(deserialize_with = "number")]
    pub one_hot: f64,
    /// Budget loss.
    #[serde(deserialize_with = "number")]
    pub budget: f64,
    /// Reconstruction loss of PMIM, unweighted.
    #[serde(deserialize_with = "number")]
    pub reconstruction: f64,
    /// Sum of all, the reconstruction loss weighted.
    #[serde(deserialize_with = "number")]
    pub total: f64,
}

/// State of one undecided or decided dimension.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DimensionMetrics {
    /// Entropy of the probabilities of the candidates left, −Σ p ln p, divided by ln of the number of
    /// candidates the dimension began with: 1 undecided, 0 decided. 0 where it began with one candidate.
    #[serde(deserialize_with = "number")]
    pub entropy: f64,
    /// Expected channels, Σ p · heads · channels over the candidates left, also where a unit is several channels
    /// ([`Dimension::channels_per_unit`](crate::space::Dimension::channels_per_unit)); of a flat dimension, its
    /// expected width.
    #[serde(deserialize_with = "number")]
    pub expected: f64,
}

/// A logged step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Optimiser steps done before this one.
    pub step: u64,
    /// Phase of the step.
    pub phase: Phase,
    /// Losses.
    pub loss: Losses,
    /// λ, the weight of importance in the bi-mask.
    #[serde(deserialize_with = "number")]
    pub lambda: f64,
    /// γ, the share of masked patch tokens.
    #[serde(deserialize_with = "number")]
    pub mask_ratio: f64,
    /// Expected cost in MACs: at the expected sizes of all dimensions, or, where estimates decide, at
    /// the sizes of the last round.
    #[serde(deserialize_with = "number")]
    pub macs_expected: f64,
    /// Current cost in MACs: of the network at its present sizes.
    #[serde(deserialize_with = "number")]
    pub macs_current: f64,
    /// Learning rate of the weights.
    #[serde(deserialize_with = "number")]
    pub lr: f64,
    /// Steps skipped so far because a gradient was not finite.
    pub skipped: u64,
    /// Mean wall time of a step since the last logged one, in milliseconds, without evaluations, reconstructions and
    /// checkpoints between the steps.
    #[serde(deserialize_with = "number")]
    pub step_ms: f64,
    /// Every dimension of the search space by name; empty where nothing is searched: in plain
    /// training, and once the search has finished.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dimensions: BTreeMap<String, DimensionMetrics>,
}

/// Units pruned after a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pruned {
    /// Optimiser steps done.
    pub step: u64,
    /// Prunable units before and after, by dimension: of an attention heads × units of a head, which are pairs of
    /// channels where rotary positions turn pairs. [`Event::Decided`] counts channels
    /// ([`Dimension::channels_per_unit`](crate::space::Dimension::channels_per_unit)).
    pub units: BTreeMap<String, [i64; 2]>,
    /// Largest change of a logit when the gates of the pruned units are set to zero; 0 after a
    /// complete fade-out.
    #[serde(deserialize_with = "number")]
    pub gate_jump: f64,
    /// Largest difference between the masked network and the one narrowed in attention and
    /// hidden units: rounding only.
    #[serde(deserialize_with = "number")]
    pub exact_difference: f64,
    /// Largest change of a logit by removing embedding channels, over which LayerNorm averages.
    #[serde(deserialize_with = "number")]
    pub embedding_jump: f64,
    /// Largest change of a logit by the whole prune step.
    #[serde(deserialize_with = "number")]
    pub total_jump: f64,
    /// Largest logit before, for scale.
    #[serde(deserialize_with = "number")]
    pub logit_scale: f64,
    /// MACs of the pruned network.
    #[serde(deserialize_with = "number")]
    pub macs: f64,
}

#[cfg(feature = "report")]
impl Pruned {
    /// Sum of the units pruned in all dimensions.
    pub(crate) fn pruned_units(&self) -> i64 {
        self.units.values().map(|[before, after]| before - after).sum()
    }
}

/// End of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Optimiser steps done when the last dimension was decided.
    pub step: u64,
    /// Dimensions that were decided by projection onto the budgets.
    pub projected: usize,
    /// Cost of the subnet under each budget.
    pub costs: Vec<f64>,
}

#[cfg(feature = "report")]
impl Finished {
    /// The end of the search among the events of a stage.
    pub(crate) fn of(events: &[Event]) -> Option<&Self> {
        events.iter().find_map(|event| match event {
            Event::Finished(finished) => Some(finished),
            _ => None,
        })
    }
}

/// Reaction to steps whose loss or gradient was not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFiniteAction {
    /// The steps were skipped: no parameter moved.
    Skipped,
    /// The run was rolled back to its last checkpoint.
    RolledBack,
    /// It happened again after the rollback, and the run was stopped.
    Stopped,
}

/// "rolled back to the last checkpoint".
impl Display for NonFiniteAction {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Skipped => "skipped, no parameter was updated",
            Self::RolledBack => "rolled back to the last checkpoint",
            Self::Stopped => "run stopped",
        })
    }
}

/// One event of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A logged step.
    Step(StepMetrics),
    /// Units were pruned.
    Pruned(Pruned),
    /// A dimension was decided: a single candidate is left.
    Decided {
        /// Optimiser steps done.
        step: u64,
        /// Name of the dimension.
        dimension: String,
        /// Its heads.
        heads: i64,
        /// Its channels a head, not pairs where rotary positions turn pairs of them.
        channels: i64,
    },
    /// Sizes were chosen under a latency budget. If they are slower than asked by more than noise, they are chosen
    /// again, and another such event follows.
    Latency(LatencyCheck),
    /// All dimensions are decided.
    Finished(Finished),
    /// Steps had a loss or gradient that was not finite.
    NonFinite {
        /// Optimiser steps done.
        step: u64,
        /// Steps skipped in all.
        skipped: u64,
        /// Steps skipped in a row up to this one.
        in_a_row: u64,
        /// Reaction.
        action: NonFiniteAction,
        /// Names of the losses and gradients that were not finite at the first of the skipped steps
        /// in a row; empty if unknown, after a resume.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        first: Vec<String>,
        /// At a rollback, or where there is nothing to roll back to: newer checkpoints that could not be used, and why.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unusable: Vec<String>,
    },
    /// A checkpoint is about to be written.
    Checkpoint {
        /// Optimiser steps done.
        step: u64,
    },
    /// An evaluation of the caller's: top-1 on held-out images.
    Evaluated {
        /// Optimiser steps done.
        step: u64,
        /// Share of images whose class is predicted first.
        #[serde(deserialize_with = "number")]
        top1: f64,
    },
}

/// A receiver of events.
///
/// Implemented by closures `FnMut(&Event) -> Result<()>`, by [`MetricsFile`](super::MetricsFile),
/// by pairs and lists of listeners, and by `()`, which ignores all events.
pub trait Listener {
    /// Receives an event; called in order of occurrence.
    ///
    /// # Errors
    /// Whatever keeps the listener from handling it; the search stops with that error.
    fn on_event(&mut self, event: &Event) -> Result<()>;
}

impl<F: FnMut(&Event) -> Result<()>> Listener for F {
    fn on_event(&mut self, event: &Event) -> Result<()> {
        self(event)
    }
}

impl Listener for () {
    fn on_event(&mut self, _event: &Event) -> Result<()> {
        Ok(())
    }
}

impl<L: Listener, M: Listener> Listener for (L, M) {
    fn on_event(&mut self, event: &Event) -> Result<()> {
        self.0.on_event(event)?;
        self.1.on_event(event)
    }
}

impl Listener for Vec<Box<dyn Listener + '_>> {
    fn on_event(&mut self, event: &Event) -> Result<()> {
        self.iter_mut().try_for_each(|listener| listener.on_event(event))
    }
}

impl Event {
    /// Returns whether a search resumed after `step` optimiser steps does not emit this event again.
    ///
    /// A logged step carries the steps done before it, and an evaluation follows the checkpoint of
    /// its step; every other event carries the steps done with its own.
    pub fn is_before(&self, step: u64) -> bool {
        match self {
            Self::Step(metrics) => metrics.step < step,
            Self::Evaluated { step: at, .. } => *at < step,
            Self::Pruned(pruned) => pruned.step <= step,
            Self::Finished(finished) => finished.step <= step,
            Self::Latency(check) => check.step <= step,
            Self::Decided { step: at, .. }
            | Self::NonFinite { step: at, .. }
            | Self::Checkpoint { step: at } => *at <= step,
        }
    }
}
