//! The learning rate over a run.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Linear warm-up to the peak, then half a cosine down to `floor` × peak.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CosineSchedule {
    /// Highest learning rate.
    pub peak: f64,
    /// Share of the peak that is left at the end.
    pub floor: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// Steps in all.
    pub total_steps: u64,
}

impl CosineSchedule {
    /// Refuses rates that are not, and a warm-up that never ends.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the number of the rate `name`.
    pub fn check(&self, name: &str) -> Result<()> {
        let of = |part: &str| format!("{name}.{part}");
        if !(self.peak.is_finite() && self.peak >= 0.0) {
            return Err(Error::invalid(of("peak"), "finite and not negative", self.peak));
        }
        if !(0.0..=1.0).contains(&self.floor) {
            return Err(Error::invalid(of("floor"), "within [0, 1]", self.floor));
        }
        if self.warmup_steps > 0 && self.warmup_steps >= self.total_steps {
            let expected = format!("below total_steps {}", self.total_steps);
            return Err(Error::invalid(of("warmup_steps"), expected, self.warmup_steps));
        }
        Ok(())
    }

    /// Learning rate of a step; constant at the floor beyond the last.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
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
    fn warms_up_and_anneals() {
        let schedule = CosineSchedule { peak: 2.0, floor: 0.1, warmup_steps: 4, total_steps: 104 };
        assert_eq!(schedule.at(0), 0.5);
        assert_eq!(schedule.at(4), 2.0);
        assert_abs_diff_eq!(schedule.at(54), 1.1, epsilon = 1e-12);
        assert_abs_diff_eq!(schedule.at(1000), 0.2, epsilon = 1e-12);
    }
}
