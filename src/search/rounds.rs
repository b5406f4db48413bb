//! Decisions from estimated losses: in rounds, under limits that fall to the budgets.

use super::events::Listener;
use super::options::Decisions;
use super::step::Search;
use crate::cost::CostLimit;
use crate::models::Architecture;
use crate::Result;
use tch::Tensor;

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
    pub(super) fn estimate(&mut self) -> Result<()> {
        if !self.estimates() {
            return Ok(());
        }
        let losses = self.estimated_losses()?;
        for (state, losses) in self.supernet.states_mut().iter_mut().zip(losses) {
            if state.active.decided().is_none() {
                let alpha: Vec<f32> = losses.iter().map(|loss| -*loss as f32).collect();
                let alpha = Tensor::f_from_slice(&alpha)?.f_view_as(&state.alpha)?;
                state.set_alpha(&alpha.f_to_device(state.alpha.device())?)?;
            }
        }
        Ok(())
    }

    /// One round: projects α = −L onto the present limits, and drops every candidate with more heads or
    /// channels than the choice.
    pub(super) fn drop_larger(&mut self, listener: &mut dyn Listener) -> Result<()> {
        let undecided = self.undecided();
        self.estimate()?;
        let choice = self.project(&self.present_limits()?)?;
        for (at, candidate) in choice.candidates.into_iter().enumerate() {
            let state = &mut self.supernet.states_mut()[at];
            if state.active.decided().is_some() {
                continue;
            }
            let most = state.candidates().size(candidate);
            let within = state
                .candidates()
                .sizes()
                .zip(state.active.flags())
                .map(|(size, &active)| {
                    active && size.heads <= most.heads && size.channels <= most.channels
                })
                .collect();
            state.set_active(within)?;
        }
        self.emit_decided(&undecided, listener)
    }

    /// Limits of the present round: with the share t of the steps to the last round done, F₀ − (F₀ − F*)·(1 − (1 − t)³)
    /// of every budget F*, F₀ the dense cost, but no less than the largest budget of
    /// `budget.keep_feasible`. They fall fast at first, where pruning costs little loss, and leave the
    /// most steps to a network close to its final size.
    pub(super) fn present_limits(&self) -> Result<Vec<CostLimit>> {
        let model = self.supernet.cost_model();
        let done = (self.step as f64 / self.last_round().max(1) as f64).min(1.0);
        let progress = 1.0 - (1.0 - done).powi(3);
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
