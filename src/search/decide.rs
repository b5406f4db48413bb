//! Decisions: candidates are dropped, sizes are decided under the budgets.

use super::events::{Event, Listener};
use super::latency::lowest_latency;
use super::options::Decisions;
use super::readout::DimensionReadout;
use super::step::Search;
use crate::cost::{project, project_close, Choice, CostLimit, Projection, MOST_UNUSED};
use crate::models::Architecture;
use crate::space::{Size, Sizes};
use crate::supernet::DimensionState;
use crate::{Error, Result};
use tch::Tensor;

impl<A: Architecture> Search<A> {
    /// The work after an optimiser step of the search: prunes units whose gates have faded out,
    /// decides all sizes when the search ends, drops candidates at a prune step.
    pub(super) fn decide(&mut self, images: &Tensor, listener: &mut dyn Listener) -> Result<()> {
        self.prune_faded(images, listener)?;
        if self.must_decide() {
            self.expect_same_parameters()?;
            let readout = self.read_out()?;
            self.projected = self.decide_all(&readout, listener)?;
            self.begin_fade_out((0..self.supernet.states().len()).collect(), &readout)?;
        } else if self.step.is_multiple_of(self.options.pruning.interval) && !self.is_decided() {
            self.expect_same_parameters()?;
            let readout = self.read_out()?;
            match self.options.decisions {
                Decisions::Learned => self.drop_candidates(&readout, listener)?,
                Decisions::Estimated => self.drop_larger(&readout, listener)?,
            }
            // The last choice is measured, however early it is made.
            if self.is_decided() && lowest_latency(&self.limits).is_some() {
                self.decide_all(&readout, listener)?;
            }
            // A fade-out too late to end before all sizes are decided does not begin here: its units
            // fade out after that decision.
            let in_time =
                self.step + 2 * self.options.pruning.fade_out_steps <= self.options.search_steps;
            if in_time && self.supernet.can_narrow() {
                self.begin_fade_out(self.shrinking(), &readout)?;
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

    /// Returns whether all sizes are to be decided now: early enough for a fade-out to end with the
    /// search.
    fn must_decide(&self) -> bool {
        let due = self.step + self.options.pruning.fade_out_steps >= self.options.search_steps;
        let open = !self.is_decided() || !self.shrinking().is_empty();
        due && open && self.options.budget.decide_at_end && !self.is_fading_out()
    }

    /// Returns whether every dimension has a single active candidate.
    pub(super) fn is_decided(&self) -> bool {
        self.supernet.is_decided()
    }

    /// Decides every dimension by projection onto the budgets; returns how many were undecided.
    fn decide_all(
        &mut self,
        readout: &[DimensionReadout],
        listener: &mut dyn Listener,
    ) -> Result<usize> {
        let undecided = self.undecided();
        self.estimate(readout)?;
        let projection = self.project_measured(readout, listener)?;
        for (at, candidate) in projection.candidates.into_iter().enumerate() {
            let candidates = self.supernet.states()[at].candidates().len();
            let flags = (0..candidates).map(|other| other == candidate).collect();
            self.supernet.states_mut()[at].set_active(flags)?;
        }
        self.emit_decided(&undecided, listener)?;
        Ok(undecided.iter().filter(|&&open| open).count())
    }

    /// Flags of the undecided dimensions.
    pub(super) fn undecided(&self) -> Vec<bool> {
        self.supernet.states().iter().map(|state| state.active.decided().is_none()).collect()
    }

    /// Returns the choice of one candidate per dimension with the highest Σ ln p under `budgets`.
    /// Changes nothing.
    ///
    /// Where estimates decide, Σ ln p is minus the estimated rise of the loss. Where α is learned, the choice uses at least 98 %
    /// of one budget, if any does ([`project_close`]).
    ///
    /// The choice is made among active candidates. If they cannot meet the budgets, or the best choice leaves
    /// more than 2 % of every budget unused, dropped candidates whose units are not pruned yet are considered too,
    /// each at most as probable as the least probable active one.
    ///
    /// # Errors
    /// [`Error::Infeasible`] if the remaining units cannot meet a budget, [`Error::Conflicting`] if
    /// each can be met, but no choice meets all;
    /// [`Error::NonFinite`] if an α is not finite.
    pub fn project(&self, budgets: &[CostLimit]) -> Result<Projection> {
        self.project_from(&self.read_out()?, budgets)
    }

    /// [`project`](Self::project) from what was read from the device.
    pub(super) fn project_from(
        &self,
        readout: &[DimensionReadout],
        budgets: &[CostLimit],
    ) -> Result<Projection> {
        let found = match self.project_active(readout, budgets) {
            Ok(close) if uses_one_of(budgets, &close) => return Ok(close),
            Ok(found) => found,
            Err(Error::Infeasible { .. } | Error::Conflicting { .. }) => {
                return self.project_among(readout, budgets, DimensionState::possible_candidates)
            }
            Err(other) => return Err(other),
        };
        // Among more candidates projection follows fewer of their combinations: it may find a worse choice, or none.
        let among_all = self.project_among(readout, budgets, DimensionState::possible_candidates);
        let better = |other: &Projection| match self.estimates() {
            true => other.log_probability > found.log_probability,
            false => uses_more_of(budgets, other, &found),
        };
        Ok(among_all.ok().filter(better).unwrap_or(found))
    }

    /// [`project`](Self::project) among active candidates.
    pub(super) fn project_active(
        &self,
        readout: &[DimensionReadout],
        budgets: &[CostLimit],
    ) -> Result<Projection> {
        self.project_among(readout, budgets, |state| state.active.numbers().collect())
    }

    /// Sizes of a choice, by dimension.
    pub(super) fn sizes_of(&self, choice: &Projection) -> Sizes {
        let states = self.supernet.states().iter().zip(&choice.candidates);
        let size = |state: &DimensionState, candidate| state.candidates().size(candidate);
        states.map(|(state, &candidate)| (state.name.clone(), size(state, candidate))).collect()
    }

    /// [`project`](Self::project) among given candidates of every dimension.
    fn project_among(
        &self,
        readout: &[DimensionReadout],
        budgets: &[CostLimit],
        candidates: impl Fn(&DimensionState) -> Vec<usize>,
    ) -> Result<Projection> {
        let losses = self.estimates().then(|| self.estimated_losses(readout));
        let mut choices = Vec::new();
        for (at, state) in self.supernet.states().iter().enumerate() {
            let log_p = match &losses {
                Some(losses) => losses[at].iter().map(|loss| -loss).collect(),
                None => log_probabilities(state, &readout[at].alpha),
            };
            choices.push(Choice::new(&state.name, candidates(state), &log_p)?);
        }
        let project = if losses.is_some() { project } else { project_close };
        project(self.supernet.cost_model(), self.supernet.space(), &choices, budgets)
    }

    /// Drops every candidate with p ≤ `drop_share`/n, the least probable first, unless the others
    /// could no longer meet the budgets, or could only stay far below all of them.
    fn drop_candidates(
        &mut self,
        readout: &[DimensionReadout],
        listener: &mut dyn Listener,
    ) -> Result<()> {
        let undecided = self.undecided();
        let fewest = if self.options.pruning.decide_early { 1 } else { 2 };
        for (at, own) in readout.iter().enumerate() {
            let state = &self.supernet.states()[at];
            let log_p = log_probabilities(state, &own.alpha);
            let p: Vec<f64> = log_p.iter().map(|log_p| log_p.exp()).collect();
            let threshold = self.options.pruning.drop_share / state.active.count() as f64;
            let mut improbable: Vec<usize> =
                state.active.numbers().filter(|&candidate| p[candidate] <= threshold).collect();
            improbable.sort_by(|&left, &right| p[left].total_cmp(&p[right]));
            for candidate in improbable {
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

    /// Returns whether, with these active candidates in dimension `at`, the cheapest choice meets
    /// every budget and the most expensive costs at least as much as one of them, so that
    /// projection can end close to it. For every budget of `budget.keep_feasible` both must hold.
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

    /// Emits an event for every dimension that was undecided before and is decided now.
    pub(super) fn emit_decided(
        &mut self,
        were_undecided: &[bool],
        listener: &mut dyn Listener,
    ) -> Result<()> {
        let dimensions = &self.supernet.space().dimensions;
        for (at, (state, own)) in self.supernet.states().iter().zip(dimensions).enumerate() {
            let Some(candidate) = state.active.decided().filter(|_| were_undecided[at]) else {
                continue;
            };
            let size = own.in_channels(state.candidates().size(candidate));
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

/// Returns whether a choice leaves at most [`MOST_UNUSED`] of one of the budgets unused.
fn uses_one_of(budgets: &[CostLimit], choice: &Projection) -> bool {
    let mut costs = choice.costs.iter().zip(budgets);
    costs.any(|(cost, budget)| *cost >= (1.0 - MOST_UNUSED) * budget.limit)
}

/// Returns whether a choice leaves less of the budget that it uses most than another choice does.
fn uses_more_of(budgets: &[CostLimit], choice: &Projection, other: &Projection) -> bool {
    let most = |choice: &Projection| {
        let shares = choice.costs.iter().zip(budgets).map(|(cost, budget)| cost / budget.limit);
        shares.fold(0.0, f64::max)
    };
    most(choice) > most(other)
}

/// ln p of every candidate, in f64, because f32 would make very improbable candidates equal. α of a
/// dropped candidate is no longer learned: in its place min(α, least active α) is used.
fn log_probabilities(state: &DimensionState, alpha: &[f64]) -> Vec<f64> {
    let active = || state.active.numbers().map(|candidate| alpha[candidate]);
    let (least, largest) =
        active().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), a| (l.min(a), m.max(a)));
    let log_sum = active().map(|alpha| (alpha - largest).exp()).sum::<f64>().ln();
    let counts = |(&alpha, &active): (&f64, &bool)| if active { alpha } else { alpha.min(least) };
    let candidates = alpha.iter().zip(state.active.flags());
    candidates.map(counts).map(|alpha| alpha - largest - log_sum).collect()
}
