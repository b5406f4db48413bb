//! Decisions from estimated losses: in rounds, under limits that fall to the budgets.

use super::events::Listener;
use super::options::Decisions;
use super::readout::DimensionReadout;
use super::step::Search;
use crate::cost::{CostLimit, Projection, MOST_UNUSED};
use crate::models::Architecture;
use crate::transfer::upload;
use crate::{Error, Result};

/// Share of the fall of a limit that comes at once, at the end.
const AT_ONCE: f64 = 0.05;
/// Halvings of the fall of the limits, to find how far a budget that stays feasible lets them fall.
const HALVINGS: usize = 8;

impl<A: Architecture> Search<A> {
    /// Returns whether sizes are decided by estimated losses.
    pub(super) fn estimates(&self) -> bool {
        self.options.decisions == Decisions::Estimated
    }

    /// Returns whether the effects of the step in progress count for a decision.
    pub(super) fn needs_evidence(&self) -> bool {
        self.estimates() && !self.is_decided()
    }

    /// Step at which all sizes are decided.
    fn last_round(&self) -> u64 {
        self.options.search_steps.saturating_sub(self.options.pruning.fade_out_steps)
    }

    /// Sets α = −L of every undecided dimension, so that Σ ln p of a choice is, up to a constant, minus
    /// its estimated loss. Nothing happens where α is learned.
    pub(super) fn estimate(&mut self, readout: &[DimensionReadout]) -> Result<()> {
        if !self.estimates() {
            return Ok(());
        }
        let losses = self.estimated_losses(readout);
        let device = self.supernet.device();
        for (state, losses) in self.supernet.states_mut().iter_mut().zip(losses) {
            if state.active.decided().is_none() {
                let alpha: Vec<f32> = losses.iter().map(|loss| -*loss as f32).collect();
                if alpha.iter().any(|alpha| !alpha.is_finite()) {
                    let (name, dimension) = ("estimated loss".into(), state.name.clone());
                    return Err(Error::NonFinite { name, dimension });
                }
                let alpha = upload(&alpha, device)?;
                crate::autograd::no_grad(|| state.alpha.f_copy_(&alpha.f_view_as(&state.alpha)?))?;
            }
        }
        Ok(())
    }

    /// One round: projects α = −L onto the present limits, and drops every candidate with more heads or
    /// channels than the choice.
    pub(super) fn drop_larger(
        &mut self,
        readout: &[DimensionReadout],
        listener: &mut dyn Listener,
    ) -> Result<()> {
        let undecided = self.undecided();
        self.estimate(readout)?;
        let Some(choice) = self.choice_of_round(readout)? else { return Ok(()) };
        for (at, candidate) in choice.candidates.into_iter().enumerate() {
            let state = &mut self.supernet.states_mut()[at];
            if state.active.decided().is_some() {
                continue;
            }
            let most = state.candidates().size(candidate);
            let sizes = state.candidates().sizes().zip(state.active.flags()).enumerate();
            let within = sizes
                .map(|(at, (size, &active))| (active || at == candidate) && size.fits_into(most))
                .collect();
            state.set_active(within)?;
        }
        self.emit_decided(&undecided, listener)
    }

    /// Choice of sizes under the limits of the present round; under higher ones, if it would leave too little for a
    /// budget of `budget.keep_feasible`; `None` if every choice would.
    fn choice_of_round(&self, readout: &[DimensionReadout]) -> Result<Option<Projection>> {
        let progress = self.progress();
        let choice = self.choice_at(readout, progress)?;
        if self.keeps_feasible(&choice)? {
            return Ok(Some(choice));
        }
        let (mut least, mut most, mut found) = (0.0, progress, None);
        for _ in 0..HALVINGS {
            let middle = (least + most) / 2.0;
            let choice = self.choice_at(readout, middle)?;
            match self.keeps_feasible(&choice)? {
                true => (least, found) = (middle, Some(choice)),
                false => most = middle,
            }
        }
        Ok(found)
    }

    /// Choice of sizes under the limits at a share of their fall.
    fn choice_at(&self, readout: &[DimensionReadout], progress: f64) -> Result<Projection> {
        let limits = self.limits_at(progress)?;
        // Dropped candidates count only where active ones cannot meet the limits.
        match self.project_active(readout, &limits) {
            Err(Error::Infeasible { .. } | Error::Conflicting { .. }) => {
                self.project_from(readout, &limits)
            }
            other => other,
        }
    }

    /// Returns whether networks within a choice can use every budget of `budget.keep_feasible`.
    fn keeps_feasible(&self, choice: &Projection) -> Result<bool> {
        let model = self.supernet.cost_model();
        let sizes = self.sizes_of(choice);
        for budget in &self.options.budget.keep_feasible {
            let CostLimit { metric, limit } = budget.resolve(model)?;
            if model.cost(metric, &sizes)? < (1.0 - MOST_UNUSED) * limit {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Share of their fall by which limits have fallen: 1 − (1 − t)³, t the share done of the steps to the last round.
    /// They fall fast at first, where pruning costs little loss, and leave the most steps to a network close to its final
    /// size. The last 5 % come at once: a fall of less than the cost of a unit would take a whole one.
    fn progress(&self) -> f64 {
        let done = (self.step as f64 / self.last_round().max(1) as f64).min(1.0);
        let left = (1.0 - done).powi(3);
        if left < AT_ONCE {
            1.0
        } else {
            1.0 - left
        }
    }

    /// Limits at a share of their fall: F₀ − (F₀ − F*)·progress of every budget F*, F₀ the dense cost, but no less than
    /// the largest budget of `budget.keep_feasible` in the same metric.
    fn limits_at(&self, progress: f64) -> Result<Vec<CostLimit>> {
        let model = self.supernet.cost_model();
        let keep = self.options.budget.keep_feasible.iter();
        let keep: Vec<CostLimit> = keep.map(|own| own.resolve(model)).collect::<Result<_>>()?;
        let present = |limit: &CostLimit| -> Result<CostLimit> {
            let dense = model.dense_cost(limit.metric)?;
            let now = dense - (dense - limit.limit) * progress;
            let own = keep.iter().filter(|own| own.metric == limit.metric);
            let least = own.map(|own| own.limit).fold(limit.limit, f64::max);
            Ok(CostLimit { limit: now.max(least), ..*limit })
        };
        self.limits.iter().map(present).collect()
    }
}
