//! Decisions: candidates are dropped, sizes are decided under the budgets.

use super::events::{Event, Listener};
use super::step::Search;
use crate::components::expect_finite;
use crate::cost::{project, Choice, CostLimit, Projection};
use crate::models::Architecture;
use crate::space::Size;
use crate::supernet::DimensionState;
use crate::tensors::to_host;
use crate::{Error, Result};
use tch::Tensor;

/// Share of a budget that active candidates may leave unused; beyond, dropped candidates are looked at again.
const MOST_UNUSED: f64 = 0.02;

impl<A: Architecture> Search<A> {
    /// After a step of the search: takes out units that have landed, chooses among the sizes when
    /// the search has to end, drops candidates when it is time.
    pub(super) fn decide(&mut self, images: &Tensor, listener: &mut dyn Listener) -> Result<()> {
        self.prune_faded(images, listener)?;
        if self.must_decide() {
            self.projected = self.decide_all(listener)?;
            self.begin_fade_out((0..self.supernet.states().len()).collect())?;
        } else if self.step.is_multiple_of(self.options.pruning.interval) && !self.is_decided() {
            self.drop_candidates(listener)?;
            // What could not land before the choice waits for it; so does what stays in place.
            let in_time =
                self.step + 2 * self.options.pruning.fade_out_steps <= self.options.search_steps;
            if in_time && self.supernet.can_narrow() {
                self.begin_fade_out(self.shrinking())?;
            }
        }
        if self.options.pruning.fade_out_steps == 0 {
            self.prune_faded(images, listener)?;
        }
        if self.is_decided() && !self.is_fading_out() && self.shrinking().is_empty() {
            self.finish(listener)?;
        }
        self.advance_fade_outs();
        Ok(())
    }

    /// Whether the choice is due: it has to have landed when the search ends.
    fn must_decide(&self) -> bool {
        let due = self.step + self.options.pruning.fade_out_steps >= self.options.search_steps;
        let open = !self.is_decided() || !self.shrinking().is_empty();
        due && open && self.options.budget.decide_at_end && !self.is_fading_out()
    }

    /// Whether every dimension has a single active candidate.
    fn is_decided(&self) -> bool {
        self.supernet.is_decided()
    }

    /// Decides every dimension by projection onto the budgets; returns how many were open.
    fn decide_all(&mut self, listener: &mut dyn Listener) -> Result<usize> {
        let undecided = self.undecided();
        let projection = self.project(&self.limits.clone())?;
        for (at, candidate) in projection.candidates.into_iter().enumerate() {
            let candidates = self.supernet.states()[at].candidates().len();
            let flags = (0..candidates).map(|other| other == candidate).collect();
            self.supernet.states_mut()[at].set_active(flags)?;
        }
        self.emit_decided(&undecided, listener)?;
        Ok(undecided.iter().filter(|&&open| open).count())
    }

    fn undecided(&self) -> Vec<bool> {
        self.supernet.states().iter().map(|state| state.active.decided().is_none()).collect()
    }

    /// The most probable choice of active candidates that keeps `budgets` exactly. Changes nothing.
    ///
    /// Where active candidates cannot keep them, or leave more than a fiftieth of each unused, dropped
    /// candidates whose units are still there come back into the choice; each is at most as probable as
    /// the least probable active one.
    ///
    /// # Errors
    /// [`Error::Infeasible`] if the units that are left cannot keep a budget;
    /// [`Error::NonFinite`] if an α is not finite.
    pub fn project(&self, budgets: &[CostLimit]) -> Result<Projection> {
        let active = self.project_among(budgets, |state| state.active.numbers().collect());
        match active {
            Ok(close) if uses_one_of(budgets, &close) => Ok(close),
            Ok(_) | Err(Error::Infeasible { .. } | Error::Conflicting { .. }) => {
                self.project_among(budgets, DimensionState::possible_candidates)
            }
            Err(other) => Err(other),
        }
    }

    /// The most probable choice of the candidates that every dimension is said to have.
    fn project_among(
        &self,
        budgets: &[CostLimit],
        candidates: impl Fn(&DimensionState) -> Vec<usize>,
    ) -> Result<Projection> {
        let mut choices = Vec::new();
        for state in self.supernet.states() {
            expect_finite("alpha", &state.name, &state.alpha)?;
            choices.push(Choice::new(&state.name, candidates(state), &log_probabilities(state)?)?);
        }
        project(self.supernet.cost_model(), self.supernet.space(), &choices, budgets)
    }

    /// Drops every candidate whose probability has fallen to `drop_share` of the mean, the least
    /// probable first, as long as the budgets can still be met from both sides.
    fn drop_candidates(&mut self, listener: &mut dyn Listener) -> Result<()> {
        let undecided = self.undecided();
        let fewest = if self.options.pruning.decide_early { 1 } else { 2 };
        for at in 0..self.supernet.states().len() {
            let state = &self.supernet.states()[at];
            expect_finite("alpha", &state.name, &state.alpha)?;
            expect_finite("score", &state.name, &state.score)?;
            let p = to_host(&state.active.probabilities(&state.alpha)?)?;
            let threshold = self.options.pruning.drop_share / state.active.count() as f64;
            let mut going: Vec<usize> =
                state.active.numbers().filter(|&candidate| p[candidate] <= threshold).collect();
            going.sort_by(|&left, &right| p[left].total_cmp(&p[right]));
            for candidate in going {
                let mut flags = self.supernet.states()[at].active.flags().to_vec();
                flags[candidate] = false;
                let left = flags.iter().filter(|&&active| active).count();
                if left >= fewest && self.can_still_meet_budgets(at, &flags)? {
                    self.supernet.states_mut()[at].set_active(flags)?;
                }
            }
        }
        self.emit_decided(&undecided, listener)
    }

    /// Whether cheapest ≤ limit for every budget and limit ≤ dearest for one, and both for each of
    /// the other budgets that have to stay in reach, if dimension `at` had these active candidates.
    fn can_still_meet_budgets(&self, at: usize, flags: &[bool]) -> Result<bool> {
        let candidates: Vec<Vec<Size>> = self
            .supernet
            .states()
            .iter()
            .enumerate()
            .map(|(other, state)| {
                let flags = if other == at { flags } else { state.active.flags() };
                let sizes = state.candidates().sizes().zip(flags);
                sizes.filter(|(_, active)| **active).map(|(size, _)| size).collect()
            })
            .collect();
        let (model, space) = (self.supernet.cost_model(), self.supernet.space());
        let range = |budget: &CostLimit| model.range(budget.metric, space, &candidates);
        let mut reaches_one = self.limits.is_empty();
        for budget in &self.limits {
            let (least, most) = range(budget)?;
            if least > budget.limit {
                return Ok(false);
            }
            reaches_one |= budget.limit <= most;
        }
        for budget in &self.options.budget.keep_feasible {
            let limit = budget.resolve(model)?;
            let (least, most) = range(&limit)?;
            if !(least..=most).contains(&limit.limit) {
                return Ok(false);
            }
        }
        Ok(reaches_one)
    }

    fn emit_decided(&mut self, were_undecided: &[bool], listener: &mut dyn Listener) -> Result<()> {
        for (at, state) in self.supernet.states().iter().enumerate() {
            let Some(candidate) = state.active.decided().filter(|_| were_undecided[at]) else {
                continue;
            };
            let size = state.candidates().size(candidate);
            self.optimiser.forget(&state.alpha_name());
            listener.on_event(&Event::Decided {
                step: self.step,
                dimension: state.name.clone(),
                heads: size.heads,
                channels: size.channels,
            })?;
        }
        Ok(())
    }
}

/// Whether a choice uses one of the budgets up, but for [`MOST_UNUSED`].
fn uses_one_of(budgets: &[CostLimit], choice: &Projection) -> bool {
    let mut costs = choice.costs.iter().zip(budgets);
    costs.any(|(cost, budget)| *cost >= (1.0 - MOST_UNUSED) * budget.limit)
}

/// log p of every candidate, in f64: candidates further apart than f32 reaches keep their order. α of a dropped
/// candidate stands still while the others drift: it counts as no more than the least active one.
fn log_probabilities(state: &DimensionState) -> Result<Vec<f64>> {
    let alpha = to_host(&state.alpha)?;
    let active = || state.active.numbers().map(|candidate| alpha[candidate]);
    let (least, largest) =
        active().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), a| (l.min(a), m.max(a)));
    let log_sum = active().map(|alpha| (alpha - largest).exp()).sum::<f64>().ln();
    let counts = |(&alpha, &active): (&f64, &bool)| if active { alpha } else { alpha.min(least) };
    let candidates = alpha.iter().zip(state.active.flags());
    Ok(candidates.map(counts).map(|alpha| alpha - largest - log_sum).collect())
}
