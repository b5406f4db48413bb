//! The measured latency of a choice of sizes, and what follows from it.

use crate::latency::MeasuredLatency;
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};

/// Latency of a choice of sizes, before its weights are cut.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencyCheck {
    /// Optimiser steps done.
    pub step: u64,
    /// Limit of the latency, in milliseconds of a batch.
    pub asked_ms: f64,
    /// Latency that the model predicts.
    pub predicted_ms: f64,
    /// Measured latency; `None` where this machine is not the one that the model was measured on.
    pub measured: Option<MeasuredLatency>,
    /// What follows from it.
    pub outcome: LatencyOutcome,
}

/// Outcome of a [`LatencyCheck`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LatencyOutcome {
    /// The choice is not slower than asked by more than noise, and stays.
    Met,
    /// The choice was not measured, and stays.
    NotMeasured,
    /// The choice is slower than asked; sizes are chosen again under a corrected limit.
    ChosenAgain,
    /// The choice is slower than asked, and stays: all corrections are used up.
    CorrectionsUsedUp,
    /// The choice is slower than asked, and stays: no choice of sizes meets the corrected limit.
    NoSmallerNetwork,
}

impl LatencyOutcome {
    /// Whether the choice stays although it is slower than asked.
    pub fn missed(self) -> bool {
        matches!(self, Self::CorrectionsUsedUp | Self::NoSmallerNetwork)
    }
}

/// "still slower than asked: no smaller network meets the corrected limit".
impl Display for LatencyOutcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Met => "within noise of the limit, or below",
            Self::NotMeasured => "the prediction alone holds",
            Self::ChosenAgain => "slower than asked: sizes are chosen again",
            Self::CorrectionsUsedUp => "still slower than asked: corrections used up",
            Self::NoSmallerNetwork => {
                "still slower than asked: no smaller network meets the corrected limit"
            }
        })
    }
}

impl LatencyCheck {
    /// Returns measured / asked, if the choice was measured, and is slower than asked by more than
    /// `noise` standard errors.
    pub fn slower(&self, noise: f64) -> Option<f64> {
        let MeasuredLatency { ms, standard_error } = self.measured?;
        (ms > self.asked_ms + noise * standard_error).then_some(ms / self.asked_ms)
    }
}
