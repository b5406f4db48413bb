//! Schedules: numbers that depend on the optimiser step.

use crate::range::{RATE, SHARE, STEPS};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A value that moves linearly from `start` to `end` over the first `steps` steps, then stays.
///
/// The paper moves λ (section 3.2) and the mask ratio γ (section 3.4) this way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinearRamp {
    /// Value at step 0.
    pub start: f64,
    /// Value from step `steps` on.
    pub end: f64,
    /// Length of the ramp in optimiser steps.
    pub steps: u64,
}

impl LinearRamp {
    /// A ramp from `start` to `end` over `steps` optimiser steps.
    pub fn new(start: f64, end: f64, steps: u64) -> Self {
        Self { start, end, steps }
    }

    /// Returns the value at a step.
    pub fn at(&self, step: u64) -> f64 {
        if step >= self.steps {
            return self.end;
        }
        self.start + (self.end - self.start) * step as f64 / self.steps as f64
    }
}

/// Learning rate: linear warm-up to `peak`, then half a cosine down to `floor` × `peak`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CosineSchedule {
    /// Highest learning rate.
    pub peak: f64,
    /// Final learning rate as a share of the peak.
    pub floor: f64,
    /// Optimiser steps of the warm-up.
    pub warmup_steps: u64,
    /// Optimiser steps in all.
    pub total_steps: u64,
}

impl CosineSchedule {
    /// Checks the learning rates and the length of the warm-up.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field of the schedule `name` and the value given.
    pub fn check(&self, name: &str) -> Result<()> {
        let of = |part: &str| format!("{name}.{part}");
        RATE.check(of("peak"), self.peak)?;
        SHARE.check(of("floor"), self.floor)?;
        STEPS.check(of("warmup_steps"), self.warmup_steps)?;
        STEPS.check(of("total_steps"), self.total_steps)?;
        if self.warmup_steps > 0 && self.warmup_steps >= self.total_steps {
            let expected = format!("below total_steps {}", self.total_steps);
            return Err(Error::invalid(of("warmup_steps"), expected, self.warmup_steps));
        }
        Ok(())
    }

    /// Returns the learning rate of a step; beyond the last step it stays at the floor.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step as f64 + 1.0) / self.warmup_steps as f64;
        }
        let rest = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let done = ((step - self.warmup_steps) as f64 / rest as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.peak * (self.floor + (1.0 - self.floor) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn linear_ramp_meets_both_ends_and_the_middle() {
        let ramp = LinearRamp::new(0.99, 0.1, 10);
        assert_eq!(ramp.at(0), 0.99);
        assert_abs_diff_eq!(ramp.at(5), 0.545, epsilon = 1e-12);
        assert_eq!(ramp.at(10), 0.1);
        assert_eq!(LinearRamp::new(0.99, 0.1, 0).at(0), 0.1);
    }

    #[test]
    fn cosine_schedule_warms_up_and_anneals() {
        let schedule = CosineSchedule { peak: 2.0, floor: 0.1, warmup_steps: 4, total_steps: 104 };
        assert_eq!(schedule.at(0), 0.5);
        assert_eq!(schedule.at(4), 2.0);
        assert_abs_diff_eq!(schedule.at(54), 1.1, epsilon = 1e-12);
        assert_abs_diff_eq!(schedule.at(1000), 0.2, epsilon = 1e-12);
    }
}
