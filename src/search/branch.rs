//! Many budgets from one search: Pareto points and branches.

use super::events::Phase;
use super::options::Stages;
use super::step::Search;
use crate::cost::{Budget, CostLimit, Metric};
use crate::models::Architecture;
use crate::range::STEPS;
use crate::space::Sizes;
use crate::supernet::Weights;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The subnet that a search would be decided to be under one budget, as of now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParetoPoint {
    /// Budget, in units of its metric.
    pub budget: CostLimit,
    /// Multiply-accumulates of the subnet.
    pub macs: f64,
    /// Its parameters.
    pub params: f64,
    /// Σ ln p of its candidates: 0 if all are certain. Where estimates decide, minus the estimated rise
    /// of the loss.
    pub log_probability: f64,
    /// Its sizes.
    pub sizes: Sizes,
}

impl<A: Architecture> Search<A> {
    /// Returns the subnets that the search would be decided to be under each budget, in ascending
    /// order of their limits. Changes nothing.
    ///
    /// With [`Decisions::Estimated`](super::Decisions::Estimated), losses are estimated from the last 60
    /// steps; before the first step they are all 0, and so is the preference.
    ///
    /// # Errors
    /// [`Error::Infeasible`] naming the budget that no choice of candidates meets.
    pub fn pareto(&self, budgets: &[Budget]) -> Result<Vec<ParetoPoint>> {
        let (model, readout) = (self.supernet.cost_model(), self.read_out()?);
        let point = |budget: &Budget| -> Result<ParetoPoint> {
            let limit = budget.resolve(model)?;
            let projection = self.project_from(&readout, &[limit])?;
            let chosen = self.supernet.states().iter().zip(&projection.candidates);
            let sizes: Sizes = chosen
                .map(|(s, &candidate)| (s.name.clone(), s.candidates().size(candidate)))
                .collect();
            Ok(ParetoPoint {
                budget: limit,
                macs: model.cost(Metric::Macs, &sizes)?,
                params: model.cost(Metric::Params, &sizes)?,
                log_probability: projection.log_probability,
                sizes,
            })
        };
        let mut points: Vec<ParetoPoint> = budgets.iter().map(point).collect::<Result<_>>()?;
        points.sort_by(|left, right| left.budget.limit.total_cmp(&right.budget.limit));
        Ok(points)
    }

    /// Branches: returns a search of its own that takes a subnet for `budgets` out of this one, and
    /// leaves this one as it is.
    ///
    /// The branch is decided after its next step, or when a fade-out in progress has ended. Its
    /// gates fade out, its units are pruned, and it is fine-tuned for `finetune_steps` at the
    /// learning rates of the rest of a search of that length. A final weight of the teacher that follows from the length
    /// of this search's fine-tuning ([`Distillation::for_finetuning`](crate::components::Distillation::for_finetuning)),
    /// as by default, becomes that of `finetune_steps`; one of your own stays.
    ///
    /// # Errors
    /// [`Error::Infeasible`] if the active candidates cannot meet the budgets; [`Error::Invalid`]
    /// once the search is decided.
    pub fn branch(&self, budgets: &[Budget], finetune_steps: u64) -> Result<Self> {
        STEPS.check("finetune_steps", finetune_steps)?;
        if self.phase != Phase::Search {
            return Err(Error::invalid("phase", "search, to branch from", "finetune"));
        }
        let model = self.supernet.cost_model();
        let limits: Vec<CostLimit> =
            budgets.iter().map(|budget| budget.resolve(model)).collect::<Result<_>>()?;
        self.project(&limits)?;
        let mut state = self.state()?;
        state.limits = limits;
        let options = &mut state.options;
        options.budget.decide_at_end = true;
        options.budget.keep_feasible.clear();
        // The branch has no time left for a first stage of its own.
        if let Stages::Two { importance_steps } = &mut options.stages {
            *importance_steps = state.step.min(*importance_steps);
        }
        let faded = self.fade_out_end().unwrap_or(state.step);
        let finetuned = options.total_steps.saturating_sub(options.search_steps);
        options.search_steps = (state.step + 1).max(faded) + options.pruning.fade_out_steps;
        options.total_steps = options.search_steps + finetune_steps;
        let rate = &mut options.optimiser.weight_rate;
        rate.total_steps = options.total_steps;
        rate.warmup_steps = rate.warmup_steps.min(options.total_steps.saturating_sub(1));
        if let Some(own) = &mut options.training.distillation {
            *own = own.for_other_length(finetuned, finetune_steps);
        }
        let copies = |(name, tensor): (&String, &tch::Tensor)| {
            Ok((name.clone(), crate::autograd::no_grad(|| tensor.f_detach_copy())?))
        };
        let tensors: Weights = self.tensors()?.iter().map(copies).collect::<Result<_>>()?;
        let device = self.supernet.device();
        let mut branch = Self::restore(state, &tensors, self.components.clone(), device)?;
        branch.group = Arc::clone(&self.group);
        branch.measure_with_meter_of(self);
        Ok(branch)
    }
}

/// Writes points as a JSON list, atomically.
///
/// # Errors
/// [`Error::Io`] if it cannot be written.
pub fn write_pareto(path: &Path, points: &[ParetoPoint]) -> Result<()> {
    crate::files::write_json(path, &points)
}
