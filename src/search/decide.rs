//! Cells are dropped, sizes are chosen.

use super::event::{Event, Listener};
use super::session::Session;
use crate::cost::{project, Budget, Choice, Projection};
use crate::mask::expect_finite;
use crate::models::Architecture;
use crate::space::Size;
use crate::supernet::DimensionState;
use crate::tensors::to_host;
use crate::{Error, Result};
use tch::Tensor;

/// Share of a budget that active cells may leave unused; beyond, dropped cells are looked at again.
const MOST_UNUSED: f64 = 0.02;

impl<A: Architecture> Session<A> {
    /// After a step of the search: takes out units that have landed, chooses among the sizes when
    /// the search has to end, drops cells when it is time.
    pub(super) fn decide(&mut self, images: &Tensor, listener: &mut dyn Listener) -> Result<()> {
        self.take_out_landed(images, listener)?;
        if self.must_choose() {
            self.projected = self.choose(listener)?;
            self.land((0..self.supernet.states().len()).collect())?;
        } else if self.step.is_multiple_of(self.options.prune_interval) && !self.is_chosen() {
            self.drop_cells(listener)?;
            // What could not land before the choice waits for it; so does what stays in place.
            let in_time = self.step + 2 * self.options.landing_steps <= self.options.search_steps;
            if in_time && self.supernet.shrinks() {
                self.land(self.shrinking())?;
            }
        }
        if self.options.landing_steps == 0 {
            self.take_out_landed(images, listener)?;
        }
        if self.is_chosen() && !self.is_landing() && self.shrinking().is_empty() {
            self.finish(listener)?;
        }
        self.approach();
        Ok(())
    }

    /// Whether the choice is due: it has to have landed when the search ends.
    fn must_choose(&self) -> bool {
        let due = self.step + self.options.landing_steps >= self.options.search_steps;
        let open = !self.is_chosen() || !self.shrinking().is_empty();
        due && open && self.options.decide_at_end && !self.is_landing()
    }

    /// Whether every dimension has a single active cell.
    fn is_chosen(&self) -> bool {
        self.supernet.is_decided()
    }

    /// Decides every dimension by projection onto the budgets; returns how many were open.
    fn choose(&mut self, listener: &mut dyn Listener) -> Result<usize> {
        let undecided = self.undecided();
        let projection = self.project(&self.budgets.clone())?;
        for (at, cell) in projection.cells.into_iter().enumerate() {
            let cells = self.supernet.states()[at].cells().len();
            let flags = (0..cells).map(|other| other == cell).collect();
            self.supernet.states_mut()[at].set_active(flags)?;
        }
        self.announce(&undecided, listener)?;
        Ok(undecided.iter().filter(|&&open| open).count())
    }

    fn undecided(&self) -> Vec<bool> {
        self.supernet.states().iter().map(|state| state.active.decided().is_none()).collect()
    }

    /// The most probable choice of active cells that keeps `budgets` exactly. Changes nothing.
    ///
    /// Where active cells cannot keep them, or leave more than a fiftieth of each unused, dropped
    /// cells whose units are still there come back into the choice; each is at most as probable as
    /// the least probable active one.
    ///
    /// # Errors
    /// [`Error::Infeasible`] if the units that are left cannot keep a budget;
    /// [`Error::NonFinite`] if an α is not finite.
    pub fn project(&self, budgets: &[Budget]) -> Result<Projection> {
        let active = self.project_among(budgets, |state| state.active.numbers().collect());
        match active {
            Ok(close) if uses_one_of(budgets, &close) => Ok(close),
            Ok(_) | Err(Error::Infeasible { .. } | Error::Conflicting { .. }) => {
                self.project_among(budgets, DimensionState::possible_cells)
            }
            Err(other) => Err(other),
        }
    }

    /// The most probable choice of the cells that every dimension is said to have.
    fn project_among(
        &self,
        budgets: &[Budget],
        cells: impl Fn(&DimensionState) -> Vec<usize>,
    ) -> Result<Projection> {
        let mut choices = Vec::new();
        for state in self.supernet.states() {
            expect_finite("alpha", &state.name, &state.alpha)?;
            choices.push(Choice::new(&state.name, cells(state), &log_probabilities(state)?)?);
        }
        project(self.supernet.cost_model(), self.supernet.space(), &choices, budgets)
    }

    /// Drops every cell whose probability has fallen to `drop_share` of the mean, the least
    /// probable first, as long as the budgets can still be met from both sides.
    fn drop_cells(&mut self, listener: &mut dyn Listener) -> Result<()> {
        let undecided = self.undecided();
        let fewest = if self.options.decide_early { 1 } else { 2 };
        for at in 0..self.supernet.states().len() {
            let state = &self.supernet.states()[at];
            expect_finite("alpha", &state.name, &state.alpha)?;
            expect_finite("score", &state.name, &state.score)?;
            let p = to_host(&state.active.probabilities(&state.alpha)?)?;
            let threshold = self.options.drop_share / state.active.count() as f64;
            let mut going: Vec<usize> =
                state.active.numbers().filter(|&cell| p[cell] <= threshold).collect();
            going.sort_by(|&left, &right| p[left].total_cmp(&p[right]));
            for cell in going {
                let mut flags = self.supernet.states()[at].active.flags().to_vec();
                flags[cell] = false;
                let left = flags.iter().filter(|&&active| active).count();
                if left >= fewest && self.can_still_meet_budgets(at, &flags)? {
                    self.supernet.states_mut()[at].set_active(flags)?;
                }
            }
        }
        self.announce(&undecided, listener)
    }

    /// Whether cheapest ≤ limit for every budget and limit ≤ dearest for one, and both for each of
    /// the other budgets that have to stay in reach, if dimension `at` had these active cells.
    fn can_still_meet_budgets(&self, at: usize, flags: &[bool]) -> Result<bool> {
        let candidates: Vec<Vec<Size>> = self
            .supernet
            .states()
            .iter()
            .enumerate()
            .map(|(other, state)| {
                let flags = if other == at { flags } else { state.active.flags() };
                let sizes = state.cells().sizes().zip(flags);
                sizes.filter(|(_, active)| **active).map(|(size, _)| size).collect()
            })
            .collect();
        let (model, space) = (self.supernet.cost_model(), self.supernet.space());
        let range = |budget: &Budget| model.range(budget.metric, space, &candidates);
        let mut reaches_one = self.budgets.is_empty();
        for budget in &self.budgets {
            let (least, most) = range(budget)?;
            if least > budget.limit {
                return Ok(false);
            }
            reaches_one |= budget.limit <= most;
        }
        for budget in &self.options.reach {
            let (least, most) = range(budget)?;
            if !(least..=most).contains(&budget.limit) {
                return Ok(false);
            }
        }
        Ok(reaches_one)
    }

    fn announce(&mut self, were_undecided: &[bool], listener: &mut dyn Listener) -> Result<()> {
        for (at, state) in self.supernet.states().iter().enumerate() {
            let Some(cell) = state.active.decided().filter(|_| were_undecided[at]) else {
                continue;
            };
            let size = state.cells().size(cell);
            self.optimiser.forget(&state.alpha_name());
            listener.notice(&Event::Decided {
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
fn uses_one_of(budgets: &[Budget], choice: &Projection) -> bool {
    let mut costs = choice.costs.iter().zip(budgets);
    costs.any(|(cost, budget)| *cost >= (1.0 - MOST_UNUSED) * budget.limit)
}

/// log p of every cell, in f64: cells further apart than f32 reaches keep their order. α of a dropped
/// cell stands still while the others drift: it counts as no more than the least active one.
fn log_probabilities(state: &DimensionState) -> Result<Vec<f64>> {
    let alpha = to_host(&state.alpha)?;
    let active = || state.active.numbers().map(|cell| alpha[cell]);
    let (least, largest) =
        active().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), a| (l.min(a), m.max(a)));
    let log_sum = active().map(|alpha| (alpha - largest).exp()).sum::<f64>().ln();
    let counts = |(&alpha, &active): (&f64, &bool)| if active { alpha } else { alpha.min(least) };
    let cells = alpha.iter().zip(state.active.flags());
    Ok(cells.map(counts).map(|alpha| alpha - largest - log_sum).collect())
}
