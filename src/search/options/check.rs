//! What cannot work is refused before any step.

use super::{AlphaStart, Balance, Order, SearchOptions};
use crate::pmim::WindowNorm;
use crate::{Error, Result};

impl SearchOptions {
    /// Refuses what cannot work, before any step.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the option and both values.
    pub fn check(&self) -> Result<()> {
        if self.search_steps > self.total_steps {
            let expected = format!("at most total_steps {}", self.total_steps);
            return Err(Error::invalid("search_steps", expected, self.search_steps));
        }
        self.lambda.check()?;
        self.importance.check()?;
        self.one_hot.loss.check()?;
        if let Some(pmim) = &self.pmim {
            pmim.ratio.check()?;
            WindowNorm::new(pmim.window)?;
        }
        for (name, value) in [
            ("prune_interval", self.prune_interval),
            ("log_interval", self.log_interval),
            ("skips_in_a_row", self.skips_in_a_row),
        ] {
            if value == 0 {
                return Err(Error::invalid(name, "at least 1", value));
            }
        }
        match self.alpha_start {
            AlphaStart::Even { spread } if !(spread.is_finite() && spread > 0.0) => {
                return Err(Error::invalid("alpha_start.spread", "finite and positive", spread));
            }
            _ => {}
        }
        if !(0.0..1.0).contains(&self.drop_share) {
            return Err(Error::invalid("drop_share", "within [0, 1)", self.drop_share));
        }
        if self.landing_steps > 0 && self.landing_steps >= self.search_steps {
            let expected = format!("below search_steps {}", self.search_steps);
            return Err(Error::invalid("landing_steps", expected, self.landing_steps));
        }
        match self.order {
            Order::ImportanceFirst { steps } if steps >= self.search_steps => {
                let expected = format!("below search_steps {}", self.search_steps);
                return Err(Error::invalid("order.importance_first.steps", expected, steps));
            }
            _ => {}
        }
        if let Some(distillation) = self.distillation {
            distillation.check()?;
        }
        if let Some(decay) = self.average.filter(|decay| !(0.0..1.0).contains(decay)) {
            return Err(Error::invalid("average", "within [0, 1)", decay));
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(Error::invalid("label_smoothing", "within [0, 1)", self.label_smoothing));
        }
        self.check_rates()
    }

    fn check_rates(&self) -> Result<()> {
        let optimiser = &self.optimiser;
        let ratio = match self.one_hot.balance {
            Balance::Ramp { ratio } => ratio,
            Balance::Sum => 0.0,
        };
        for (name, value) in [
            ("budget_weight", self.budget_weight),
            ("one_hot.weight", self.one_hot.weight),
            ("one_hot.balance.ramp.ratio", ratio),
            ("optimiser.score_rate", optimiser.score_rate),
            ("optimiser.alpha_rate", optimiser.alpha_rate),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::invalid(name, "finite and not negative", value));
            }
        }
        if let Some(norm) = optimiser.clip_norm.filter(|norm| !(norm.is_finite() && *norm > 0.0)) {
            return Err(Error::invalid("optimiser.clip_norm", "finite and positive", norm));
        }
        optimiser.weight_rate.check("optimiser.weight_rate")?;
        optimiser.weights.check("optimiser.weights")?;
        optimiser.alpha.check("optimiser.alpha")
    }
}
