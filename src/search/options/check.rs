//! Ranges of the options, checked before the first step.

use super::{
    AlphaInit, Balance, Decisions, OptimiserOptions, PmimReach, SearchOptions, Stages,
    TrainingOptions,
};
use crate::cost::Limit;
use crate::precision::Precision;
use crate::range::{check_all, Range, INTERVAL, PART, POSITIVE_SHARE, RATE, SCALE, SHARE, STEPS};
use crate::{Error, Result};

/// Width of the peak of α: neither its square nor that of its inverse overflows in f32.
const SPREAD: Range<f64> = Range::closed(1e-6, 1e6);
/// All batches of an optimiser step are in memory.
const ACCUMULATE: Range<u64> = Range::closed(1, 1 << 12);

impl SearchOptions {
    /// Checks the range of every option.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the option, its value and what is allowed.
    pub fn check(&self) -> Result<()> {
        let pruning = &self.pruning;
        check_all([
            ("total_steps", self.total_steps, STEPS),
            ("search_steps", self.search_steps, STEPS),
            ("lambda.steps", self.lambda.steps, STEPS),
            ("pruning.interval", pruning.interval, INTERVAL),
            ("pruning.fade_out_steps", pruning.fade_out_steps, STEPS),
            ("log_interval", self.log_interval, INTERVAL),
        ])?;
        check_all([
            ("lambda.start", self.lambda.start, SHARE),
            ("lambda.end", self.lambda.end, SHARE),
            ("one_hot.weight", self.one_hot.weight, RATE),
            ("budget.weight", self.budget.weight, RATE),
            ("pruning.drop_share", pruning.drop_share, PART),
            ("pruning.head_factor", pruning.head_factor, RATE),
            ("pruning.hidden_factor", pruning.hidden_factor, RATE),
            ("pruning.head_shrinkage", pruning.head_shrinkage, SHARE),
        ])?;
        if let AlphaInit::Even { spread } = self.init.alpha {
            SPREAD.check("init.alpha.even.spread", spread)?;
        }
        if let Balance::Ramp { ratio } = self.one_hot.balance {
            RATE.check("one_hot.balance.ramp.ratio", ratio)?;
        }
        if let Some(pmim) = &self.pmim {
            POSITIVE_SHARE.check("pmim.images", pmim.images)?;
            if pmim.reach == PmimReach::Weights && pmim.images == 1.0 {
                let expected = "below 1 with pmim.reach weights, because scores and α learn from \
                                images without masked tokens";
                return Err(Error::invalid("pmim.images", expected, pmim.images));
            }
            let ratio = pmim.mask_ratio;
            let (start, end) = ("pmim.mask_ratio.start", "pmim.mask_ratio.end");
            check_all([(start, ratio.start, PART), (end, ratio.end, PART)])?;
            STEPS.check("pmim.mask_ratio.steps", ratio.steps)?;
        }
        for (at, budget) in self.budget.keep_feasible.iter().enumerate() {
            let kind = match budget.limit {
                Limit::Share(_) => "share",
                Limit::Amount(_) => "amount",
            };
            budget.check(&format!("budget.keep_feasible.{at}.limit.{kind}"))?;
        }
        self.training.check()?;
        self.optimiser.check()?;
        self.check_lengths()
    }

    /// Search, stages and fade-out have to fit into one another.
    fn check_lengths(&self) -> Result<()> {
        if self.search_steps > self.total_steps {
            let expected = format!("at most total_steps {}", self.total_steps);
            return Err(Error::invalid("search_steps", expected, self.search_steps));
        }
        let below = |name, steps| match steps >= self.search_steps {
            true => {
                let expected = format!("below search_steps {}", self.search_steps);
                Err(Error::invalid(name, expected, steps))
            }
            false => Ok(()),
        };
        if self.pruning.fade_out_steps > 0 {
            below("pruning.fade_out_steps", self.pruning.fade_out_steps)?;
        }
        let Stages::Two { importance_steps } = self.stages else { return Ok(()) };
        if self.decisions == Decisions::Estimated {
            let expected = "one with decisions estimated, which have no α to learn; two stages go \
                            with decisions learned (SearchOptions::two_stage)";
            return Err(Error::invalid("stages", expected, "two"));
        }
        below("stages.two.importance_steps", importance_steps)
    }
}

impl OptimiserOptions {
    fn check(&self) -> Result<()> {
        for (name, rate) in
            [("optimiser.score_rate", self.score_rate), ("optimiser.alpha_rate", self.alpha_rate)]
        {
            rate.map_or(Ok(()), |rate| RATE.check(name, rate))?;
        }
        if let Some(norm) = self.clip_norm {
            SCALE.check("optimiser.clip_norm", norm)?;
        }
        self.weight_rate.check("optimiser.weight_rate")?;
        self.weights.check("optimiser.weights")?;
        self.alpha.check("optimiser.alpha")
    }
}

impl TrainingOptions {
    fn check(&self) -> Result<()> {
        for (name, precision) in
            [("training.precision", self.precision), ("training.exchange", self.exchange)]
        {
            if precision == Precision::F16 {
                let expected = "f32 or bf16: the gradients of f16 underflow";
                return Err(Error::invalid(name, expected, "f16"));
            }
        }
        ACCUMULATE.check("training.accumulate", self.accumulate)?;
        INTERVAL.check("training.max_skipped_in_a_row", self.max_skipped_in_a_row)?;
        PART.check("training.label_smoothing", self.label_smoothing)?;
        if let Some(decay) = self.ema_decay {
            PART.check("training.ema_decay", decay)?;
        }
        self.distillation.map_or(Ok(()), |own| own.check_as("training.distillation"))
    }
}
