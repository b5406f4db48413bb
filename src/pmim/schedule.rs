//! How much is hidden, and when.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The mask ratio γ rises linearly from `start` to `end` over the warm-up, then stays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MaskRatioSchedule {
    /// γ at step 0.
    pub start: f64,
    /// γ from the end of the warm-up on.
    pub end: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
}

impl MaskRatioSchedule {
    /// The paper's 5% → 25% over a warm-up.
    pub fn paper(warmup_steps: u64) -> Self {
        Self { start: 0.05, end: 0.25, warmup_steps }
    }

    /// Checks both ends.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless both lie in [0, 1).
    pub fn check(&self) -> Result<()> {
        check_ratio(self.start)?;
        check_ratio(self.end)
    }

    /// γ at a step.
    pub fn at(&self, step: u64) -> f64 {
        if step >= self.warmup_steps {
            return self.end;
        }
        self.start + (self.end - self.start) * step as f64 / self.warmup_steps as f64
    }
}

pub(crate) fn check_ratio(ratio: f64) -> Result<()> {
    if (0.0..1.0).contains(&ratio) {
        return Ok(());
    }
    Err(Error::invalid("mask ratio", "within [0, 1)", ratio))
}
