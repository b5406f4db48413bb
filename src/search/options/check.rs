//! Ranges of the options, checked before the first step.

use super::{AlphaInit, Balance, SearchOptions, Stages, TrainingOptions};
use crate::precision::Precision;
use crate::{Error, Result};

impl SearchOptions {
    /// Checks the range of every option.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the option, its value and what is allowed.
    pub fn check(&self) -> Result<()> {
        if self.search_steps > self.total_steps {
            let expected = format!("at most total_steps {}", self.total_steps);
            return Err(Error::invalid("search_steps", expected, self.search_steps));
        }
        self.lambda.check("lambda", 0.0..=1.0, "within [0, 1]")?;
        if let Some(pmim) = &self.pmim {
            pmim.mask_ratio.check("pmim.mask_ratio", 0.0..1.0, "within [0, 1)")?;
        }
        for (name, value) in [
            ("pruning.interval", self.pruning.interval),
            ("log_interval", self.log_interval),
            ("training.accumulate", self.training.accumulate),
            ("training.max_skipped_in_a_row", self.training.max_skipped_in_a_row),
        ] {
            if value == 0 {
                return Err(Error::invalid(name, "at least 1", value));
            }
        }
        match self.init.alpha {
            AlphaInit::Even { spread } if !(spread.is_finite() && spread > 0.0) => {
                return Err(Error::invalid(
                    "init.alpha.even.spread",
                    "finite and positive",
                    spread,
                ));
            }
            _ => {}
        }
        self.check_lengths()?;
        self.training.check()?;
        self.check_rates()
    }

    /// Stages and fade-out have to fit into the search.
    fn check_lengths(&self) -> Result<()> {
        let pruning = &self.pruning;
        if !(0.0..1.0).contains(&pruning.drop_share) {
            return Err(Error::invalid("pruning.drop_share", "within [0, 1)", pruning.drop_share));
        }
        let below_search = || format!("below search_steps {}", self.search_steps);
        if pruning.fade_out_steps > 0 && pruning.fade_out_steps >= self.search_steps {
            let (name, steps) = ("pruning.fade_out_steps", pruning.fade_out_steps);
            return Err(Error::invalid(name, below_search(), steps));
        }
        match self.stages {
            Stages::Two { importance_steps } if importance_steps >= self.search_steps => {
                let name = "stages.two.importance_steps";
                Err(Error::invalid(name, below_search(), importance_steps))
            }
            _ => Ok(()),
        }
    }

    fn check_rates(&self) -> Result<()> {
        let optimiser = &self.optimiser;
        let ratio = match self.one_hot.balance {
            Balance::Ramp { ratio } => ratio,
            Balance::Sum => 0.0,
        };
        for (name, value) in [
            ("budget.weight", self.budget.weight),
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

impl TrainingOptions {
    fn check(&self) -> Result<()> {
        if self.precision == Precision::F16 {
            let expected = "f32 or bf16: the gradients of f16 underflow";
            return Err(Error::invalid("training.precision", expected, "f16"));
        }
        if let Some(distillation) = self.distillation {
            distillation.check()?;
        }
        if let Some(decay) = self.ema_decay.filter(|decay| !(0.0..1.0).contains(decay)) {
            return Err(Error::invalid("training.ema_decay", "within [0, 1)", decay));
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            let (name, value) = ("training.label_smoothing", self.label_smoothing);
            return Err(Error::invalid(name, "within [0, 1)", value));
        }
        Ok(())
    }
}
