//! The learning rate over a run.

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
