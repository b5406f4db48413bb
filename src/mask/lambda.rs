//! How the weight moves from importance to sparsity.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// λ falls linearly from `start` to `end` over the warm-up, then stays (design 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LambdaSchedule {
    /// λ at step 0.
    pub start: f64,
    /// λ from the end of the warm-up on.
    pub end: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
}

impl LambdaSchedule {
    /// The paper's 0.99 → 0.1 over a warm-up.
    pub fn paper(warmup_steps: u64) -> Self {
        Self { start: 0.99, end: 0.1, warmup_steps }
    }

    /// Checks both ends.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless both lie in [0, 1].
    pub fn check(&self) -> Result<()> {
        check_lambda("lambda at the start", self.start)?;
        check_lambda("lambda at the end", self.end)
    }

    /// λ at a step.
    pub fn at(&self, step: u64) -> f64 {
        if step >= self.warmup_steps {
            return self.end;
        }
        self.start + (self.end - self.start) * step as f64 / self.warmup_steps as f64
    }
}

pub(crate) fn check_lambda(name: &str, lambda: f64) -> Result<()> {
    if (0.0..=1.0).contains(&lambda) {
        return Ok(());
    }
    Err(Error::invalid(name, "within [0, 1]", lambda))
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn runs_between_its_ends() {
        let schedule = LambdaSchedule::paper(10);
        assert_eq!(schedule.at(0), 0.99);
        assert_abs_diff_eq!(schedule.at(5), 0.545, epsilon = 1e-12);
        assert_eq!(schedule.at(10), 0.1);
        assert_eq!(LambdaSchedule::paper(0).at(0), 0.1);
    }

    #[test]
    fn lambda_outside_the_unit_interval_is_refused() {
        let schedule = LambdaSchedule { start: 1.1, end: 0.1, warmup_steps: 1 };
        assert!(matches!(schedule.check(), Err(Error::Invalid { actual, .. }) if actual == "1.1"));
        assert!(check_lambda("lambda", f64::NAN).is_err());
    }
}
