//! Cells are dropped, units leave, the search ends.

use super::event::{Cut, Event, Finished, Listener, Phase};
use super::session::Session;
use crate::cost::{project, Budget, Choice, Metric, Projection};
use crate::error::During;
use crate::loss::BudgetLoss;
use crate::mask::expect_finite;
use crate::models::Architecture;
use crate::space::{ActiveSet, DimensionKind, Size};
use crate::supernet::{DimensionState, Narrowing};
use crate::tensors::to_host;
use crate::Result;
use tch::Tensor;

/// Images that a cut is measured on, at most.
const PROBE: i64 = 8;

impl<A: Architecture> Session<A> {
    /// After a step: drops cells when it is time, and ends the search when its time is over.
    pub(super) fn decide(&mut self, images: &Tensor, listener: &mut dyn Listener) -> Result<()> {
        let over = self.step >= self.options.search_steps;
        if !over && !self.step.is_multiple_of(self.options.prune_interval) {
            return Ok(());
        }
        let undecided: Vec<bool> =
            self.supernet.states().iter().map(|state| state.active.decided().is_none()).collect();
        if over {
            let projection = self.project(&self.budgets.clone())?;
            for (at, cell) in projection.cells.into_iter().enumerate() {
                let cells = self.supernet.states()[at].cells().len();
                let flags = (0..cells).map(|other| other == cell).collect();
                self.activate(at, flags)?;
            }
        } else {
            self.drop_cells()?;
        }
        self.announce(&undecided, listener)?;
        let probe = images.f_narrow(0, 0, PROBE.min(images.size()[0]))?;
        self.cut(&probe, listener).during(format!("the cut after step {}", self.step))?;
        if self.supernet.is_decided() {
            let projected = if over { undecided.iter().filter(|&&open| open).count() } else { 0 };
            self.finish(projected, listener)?;
        }
        Ok(())
    }

    /// The most probable choice of active cells that keeps `budgets` exactly. Changes nothing.
    ///
    /// # Errors
    /// [`crate::Error::Infeasible`] if the active cells cannot keep a budget; [`crate::Error::NonFinite`] if an
    /// α is not finite.
    pub fn project(&self, budgets: &[Budget]) -> Result<Projection> {
        let mut choices = Vec::new();
        for state in self.supernet.states() {
            expect_finite("alpha", &state.name, &state.alpha)?;
            choices.push(Choice::new(&state.name, &state.active, &log_probabilities(state)?)?);
        }
        project(self.supernet.cost_model(), self.supernet.space(), &choices, budgets)
    }

    fn activate(&mut self, at: usize, flags: Vec<bool>) -> Result<()> {
        let device = self.supernet.device();
        let state = &mut self.supernet.states_mut()[at];
        state.active = ActiveSet::new(state.cells(), flags, device)?;
        Ok(())
    }

    /// Drops every cell whose probability has fallen to `drop_share` of the mean, the least
    /// probable first, as long as the budgets can still be met from both sides.
    fn drop_cells(&mut self) -> Result<()> {
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
                    self.activate(at, flags)?;
                }
            }
        }
        Ok(())
    }

    /// Whether cheapest ≤ limit for every budget, and limit ≤ dearest for one, if dimension `at`
    /// had these active cells.
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
        let mut reaches_one = self.budgets.is_empty();
        for budget in &self.budgets {
            let (least, most) = self.supernet.cost_model().range(
                budget.metric,
                self.supernet.space(),
                &candidates,
            )?;
            if least > budget.limit {
                return Ok(false);
            }
            reaches_one |= budget.limit <= most;
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

    /// Dimensions whose largest active cell is smaller than they are, with that size.
    fn shrinking(&self) -> Vec<(usize, Size)> {
        let states = self.supernet.states().iter().enumerate();
        let targets = states.map(|(at, state)| (at, state.active.largest()));
        targets.filter(|(at, size)| self.supernet.states()[*at].cells().full() != *size).collect()
    }

    /// Takes out the units no active cell can keep, and measures what that does to the logits.
    fn cut(&mut self, probe: &Tensor, listener: &mut dyn Listener) -> Result<()> {
        let targets = self.shrinking();
        if targets.is_empty() {
            return Ok(());
        }
        let units = targets.iter().map(|&(at, size)| {
            let state = &self.supernet.states()[at];
            (state.name.clone(), [state.cells().units(), size.units()])
        });
        let units = units.collect();
        let dimensions = &self.supernet.space().dimensions;
        let (embedding, exact): (Vec<_>, Vec<_>) =
            targets.iter().partition(|(at, _)| dimensions[*at].kind == DimensionKind::Embedding);

        let before = self.probe_logits(probe, &[])?;
        let masked = self.probe_logits(probe, &exact)?;
        self.narrow(&exact)?;
        let narrowed = self.probe_logits(probe, &[])?;
        self.narrow(&embedding)?;
        let after = self.probe_logits(probe, &[])?;
        listener.notice(&Event::Cut(Cut {
            step: self.step,
            units,
            gate_jump: largest_difference(&before, &masked)?,
            exact_difference: largest_difference(&masked, &narrowed)?,
            embedding_jump: largest_difference(&narrowed, &after)?,
            logit_scale: largest(&before)?,
            macs: self.supernet.cost_model().cost(Metric::Macs, &self.supernet.sizes())?,
        }))
    }

    /// Logits of the supernet at its present gates, those of the units that leave at the given
    /// sizes set to zero.
    fn probe_logits(&self, probe: &Tensor, leaving: &[(usize, Size)]) -> Result<Tensor> {
        tch::no_grad(|| {
            let mut gates: Vec<Tensor> = Vec::new();
            for mask in self.supernet.masks(self.lambda())? {
                gates.push(mask.mask);
            }
            for &(at, size) in leaving {
                let kept = self.supernet.states()[at].survivors(size)?;
                let survives =
                    gates[at].f_zeros_like()?.f_flatten(0, -1)?.f_index_fill(0, &kept, 1.0)?;
                gates[at] = gates[at].f_mul(&survives.f_view_as(&gates[at])?)?;
            }
            self.supernet.materialise(&gates)?;
            self.supernet.network_logits(probe)
        })
    }

    /// Narrows the network and everything that is shaped like its parameters.
    fn narrow(&mut self, sizes: &[(usize, Size)]) -> Result<()> {
        let narrowing: Narrowing = self.supernet.narrow(sizes)?;
        if narrowing.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.optimiser.moments().keys().cloned().collect();
        for name in names {
            self.optimiser.narrow(&name, |moment| narrowing.apply(&name, moment))?;
        }
        self.budget_loss = BudgetLoss::new(
            self.supernet.cost_model(),
            self.supernet.space(),
            &self.budgets,
            self.options.budget_weight,
            self.supernet.device(),
        )?;
        Ok(())
    }

    /// All dimensions are decided: masked image modeling ends, fine-tuning begins.
    fn finish(&mut self, projected: usize, listener: &mut dyn Listener) -> Result<()> {
        self.phase = Phase::Finetune;
        let before: Vec<String> = self.supernet.raw_weights().into_keys().collect();
        self.supernet.drop_reconstruction()?;
        let after = self.supernet.raw_weights();
        before
            .iter()
            .filter(|name| !after.contains_key(*name))
            .for_each(|name| self.optimiser.forget(name));
        self.materialise()?;
        let sizes = self.supernet.sizes();
        let model = self.supernet.cost_model();
        let costs = self.budgets.iter().map(|budget| model.cost(budget.metric, &sizes));
        let costs = costs.collect::<Result<_>>()?;
        listener.notice(&Event::Finished(Finished { step: self.step, projected, costs }))
    }
}

/// log p of every cell, in f64: cells further apart than f32 reaches keep their order.
fn log_probabilities(state: &DimensionState) -> Result<Vec<f64>> {
    let (alpha, active) = (to_host(&state.alpha)?, &state.active);
    let largest = active.numbers().map(|cell| alpha[cell]).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = active.numbers().map(|cell| (alpha[cell] - largest).exp()).sum();
    let log_p = |(cell, alpha): (usize, &f64)| match active.flags()[cell] {
        true => alpha - largest - sum.ln(),
        false => f64::NEG_INFINITY,
    };
    Ok(alpha.iter().enumerate().map(log_p).collect())
}

fn largest(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.f_abs()?.f_max()?.f_double_value(&[])?)
}

fn largest_difference(left: &Tensor, right: &Tensor) -> Result<f64> {
    largest(&left.f_sub(right)?)
}
