//! What a session tells its listeners. The library never prints.

use crate::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Scores and α are learned, units leave.
    Search,
    /// Every dimension is decided (or there is none).
    Finetune,
}

/// Losses of a step.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Losses {
    /// Cross-entropy.
    pub task: f64,
    /// Σ over dimensions of weight × one-hot loss.
    pub one_hot: f64,
    /// Budget loss.
    pub budget: f64,
    /// Reconstruction loss, before its weight.
    pub reconstruction: f64,
    /// All together, reconstruction weighted.
    pub total: f64,
}

/// How far the search of one dimension has come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DimensionMetrics {
    /// Entropy of the probabilities of the cells left, −Σ p ln p, divided by ln of the number of
    /// cells the dimension began with: 1 undecided, 0 decided. 0 where it began with one cell.
    pub entropy: f64,
    /// Expected units, Σ p · heads · channels over the cells left; of a flat dimension, its
    /// expected width.
    pub expected: f64,
}

/// A logged step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Optimiser steps done before this one.
    pub step: u64,
    /// What the step was for.
    pub phase: Phase,
    /// Losses.
    pub loss: Losses,
    /// Weight of importance in the bi-mask.
    pub lambda: f64,
    /// Share of hidden patch tokens.
    pub mask_ratio: f64,
    /// MACs at the expected sizes.
    pub macs_expected: f64,
    /// MACs of the network as it stands.
    pub macs_active: f64,
    /// Learning rate of the weights.
    pub lr: f64,
    /// Steps skipped so far because a gradient was not finite.
    pub skipped: u64,
    /// Mean wall time of a step since the last logged one, in milliseconds.
    pub step_ms: f64,
    /// Every dimension of the search space by name; empty where nothing is searched: in plain
    /// training, and once the search has finished.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dimensions: BTreeMap<String, DimensionMetrics>,
}

/// Units that left for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Step after which they left.
    pub step: u64,
    /// Units before and after, by dimension.
    pub units: BTreeMap<String, [i64; 2]>,
    /// Largest change of a logit when the gates of the leaving units are set to zero; 0 where they
    /// have landed before.
    pub gate_jump: f64,
    /// Largest difference between the masked network and the one narrowed in attention and
    /// hidden units: rounding only.
    pub exact_difference: f64,
    /// Largest change of a logit when embedding channels leave, which LayerNorm sees.
    pub embedding_jump: f64,
    /// Largest change of a logit by all of it.
    pub total_jump: f64,
    /// Largest logit of the probe before the cut, for scale.
    pub logit_scale: f64,
    /// MACs after the cut.
    pub macs: f64,
}

/// How the search ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Step after which every dimension was decided.
    pub step: u64,
    /// Dimensions that projection had to decide.
    pub projected: usize,
    /// Cost of the subnet under each budget.
    pub costs: Vec<f64>,
}

/// What was done about gradients that are not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarded {
    /// The steps moved nothing.
    Skipped,
    /// The run went back to its last checkpoint.
    WentBack,
    /// It happened again after going back, and the run was stopped.
    Stopped,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A logged step.
    Step(StepMetrics),
    /// Units left.
    Cut(Cut),
    /// A dimension has a single cell left.
    Decided {
        /// The step.
        step: u64,
        /// The dimension.
        dimension: String,
        /// Heads left.
        heads: i64,
        /// Channels left in each head.
        channels: i64,
    },
    /// All dimensions are decided.
    Finished(Finished),
    /// Steps were not finite.
    Guard {
        /// Optimiser steps done.
        step: u64,
        /// Steps skipped in all.
        skipped: u64,
        /// Steps skipped in a row up to this one.
        in_a_row: u64,
        /// What was done.
        action: Guarded,
    },
    /// The state is on disk.
    Checkpoint {
        /// Optimiser steps done.
        step: u64,
    },
    /// A measurement of the caller's: top-1 on held-out images.
    Evaluated {
        /// The step.
        step: u64,
        /// Share of images whose class is predicted first.
        top1: f64,
    },
}

/// Somebody who wants to know.
pub trait Listener {
    /// Called for every event, in order.
    ///
    /// # Errors
    /// Whatever the listener cannot do; the session stops with it.
    fn notice(&mut self, event: &Event) -> Result<()>;
}

impl Event {
    /// Whether a run that goes on after `step` optimiser steps does not make this event again.
    ///
    /// A logged step carries the steps done before it, a measurement is made after the last
    /// checkpoint; everything else carries the steps done with its own, and is in the checkpoint.
    pub fn is_before(&self, step: u64) -> bool {
        match self {
            Self::Step(metrics) => metrics.step < step,
            Self::Evaluated { step: at, .. } => *at < step,
            Self::Cut(cut) => cut.step <= step,
            Self::Finished(finished) => finished.step <= step,
            Self::Decided { step: at, .. }
            | Self::Guard { step: at, .. }
            | Self::Checkpoint { step: at } => *at <= step,
        }
    }
}

impl<F: FnMut(&Event) -> Result<()>> Listener for F {
    fn notice(&mut self, event: &Event) -> Result<()> {
        self(event)
    }
}
