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
    /// Mean wall time of a step since the last logged one, in milliseconds.
    pub step_ms: f64,
}

/// Units that left for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Step after which they left.
    pub step: u64,
    /// Units before and after, by dimension.
    pub units: BTreeMap<String, [i64; 2]>,
    /// Largest change of a logit when the gates of the leaving units are set to zero.
    pub gate_jump: f64,
    /// Largest difference between the masked network and the one narrowed in attention and
    /// hidden units: rounding only.
    pub exact_difference: f64,
    /// Largest change of a logit when embedding channels leave, which LayerNorm sees.
    pub embedding_jump: f64,
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

impl<F: FnMut(&Event) -> Result<()>> Listener for F {
    fn notice(&mut self, event: &Event) -> Result<()> {
        self(event)
    }
}
