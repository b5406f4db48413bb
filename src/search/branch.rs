//! One search, many budgets.

use super::method::Method;
use super::options::Order;
use super::session::Session;
use crate::cost::{Budget, Metric};
use crate::models::Architecture;
use crate::space::Sizes;
use crate::supernet::Weights;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What one budget would get out of a search as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParetoPoint {
    /// The budget.
    pub budget: Budget,
    /// Multiply-accumulates of the subnet.
    pub macs: f64,
    /// Its parameters.
    pub params: f64,
    /// Σ ln p of its cells: how much of its mind the search has to change for it.
    pub log_probability: f64,
    /// Its sizes.
    pub sizes: Sizes,
}

impl<A: Architecture> Session<A> {
    /// The subnets that budgets would get now, in ascending order of their limits. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Infeasible`] naming the budget that the active cells cannot keep.
    pub fn pareto(&self, budgets: &[Budget]) -> Result<Vec<ParetoPoint>> {
        let model = self.supernet.cost_model();
        let point = |budget: &Budget| -> Result<ParetoPoint> {
            let projection = self.project(&[*budget])?;
            let chosen = self.supernet.states().iter().zip(&projection.cells);
            let sizes: Sizes =
                chosen.map(|(s, &cell)| (s.name.clone(), s.cells().size(cell))).collect();
            Ok(ParetoPoint {
                budget: *budget,
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

    /// A session of its own that takes a subnet for `budgets` out of this search as it stands:
    /// the choice is made after its next step, or when what is landing has landed; its units land,
    /// and it goes on as fine-tuning for `finetune_steps`, with the learning rate of the rest of a run of that length. This search is
    /// left as it is.
    ///
    /// # Errors
    /// [`Error::Infeasible`] if the active cells cannot keep the budgets; [`Error::Invalid`] once
    /// the search has ended.
    pub fn branch(&self, budgets: Vec<Budget>, finetune_steps: u64) -> Result<Self> {
        self.branch_with(Method::of, budgets, finetune_steps)
    }

    /// [`branch`](Self::branch) of a session with a method of its own.
    ///
    /// # Errors
    /// Those of [`branch`](Self::branch).
    pub fn branch_with(
        &self,
        method: impl FnOnce(&super::SearchOptions) -> Result<Method>,
        budgets: Vec<Budget>,
        finetune_steps: u64,
    ) -> Result<Self> {
        if self.phase != super::Phase::Search {
            return Err(Error::invalid("phase", "search, to take a subnet out of", "finetune"));
        }
        self.project(&budgets)?;
        let mut state = self.state()?;
        state.budgets = budgets;
        let options = &mut state.options;
        options.decide_at_end = true;
        options.reach.clear();
        // What importance has not learned by now it will not.
        if let Order::ImportanceFirst { steps } = &mut options.order {
            *steps = state.step.min(*steps);
        }
        let landed = self.landings_end().unwrap_or(state.step);
        options.search_steps = (state.step + 1).max(landed) + options.landing_steps;
        options.total_steps = options.search_steps + finetune_steps;
        let rate = &mut options.optimiser.weight_rate;
        rate.total_steps = options.total_steps;
        rate.warmup_steps = rate.warmup_steps.min(options.total_steps - 1);
        let copies = |(name, tensor): (&String, &tch::Tensor)| {
            Ok((name.clone(), tch::no_grad(|| tensor.f_detach_copy())?))
        };
        let tensors: Weights = self.tensors()?.iter().map(copies).collect::<Result<_>>()?;
        let method = method(&state.options)?;
        Self::restore(state, &tensors, method, self.supernet.device())
    }
}

/// Writes points as a JSON list; readers see all of it or what was there before.
///
/// # Errors
/// [`Error::Io`] if it cannot be written.
pub fn write_pareto(path: &Path, points: &[ParetoPoint]) -> Result<()> {
    let json = serde_json::to_vec_pretty(points).map_err(|error| Error::file(path, error))?;
    crate::files::write_atomically(path, &json)
}
