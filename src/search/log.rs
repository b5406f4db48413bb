//! Logged steps. Beside prune steps, the only part of a step that reads from the device.

use super::events::{
    DimensionMetrics, Event, Listener, Losses, NonFiniteAction, Phase, StepMetrics,
};
use super::gradients::StepLosses;
use super::step::Search;
use super::update::NonFiniteCounts;
use crate::cost::{ExpectedCost, Metric};
use crate::models::Architecture;
use crate::space::ActiveSet;
use crate::tensors::to_host;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::time::Instant;
use tch::{Kind, Tensor};

impl<A: Architecture> Search<A> {
    /// Emits the metrics of a step, or that steps were skipped. Reads from the device.
    pub(super) fn log(&mut self, losses: &StepLosses, listener: &mut dyn Listener) -> Result<()> {
        let NonFiniteCounts { skipped, in_a_row, reported, .. } = self.non_finite.counts()?;
        self.non_finite.reported = skipped;
        if skipped > reported {
            let step = self.step + 1;
            let (action, first) = (NonFiniteAction::Skipped, self.first_not_finite()?);
            listener.on_event(&Event::NonFinite { step, skipped, in_a_row, action, first })?;
        }
        if in_a_row >= self.options.training.max_skipped_in_a_row {
            let first = self.first_not_finite()?;
            return Err(Error::Diverged { step: self.step, in_a_row, first });
        }
        if in_a_row == 0 {
            let metrics = self.metrics(losses)?;
            listener.on_event(&Event::Step(metrics))?;
        }
        Ok(())
    }

    /// Returns the metrics of a step. Reads from the device.
    fn metrics(&mut self, losses: &StepLosses) -> Result<StepMetrics> {
        let read = |tensor: &Tensor| tensor.f_to_kind(Kind::Double)?.f_double_value(&[]);
        let (task, one_hot, budget) =
            (read(&losses.task)?, read(&losses.one_hot)?, read(&losses.budget)?);
        let reconstruction = losses.reconstruction.as_ref().map(read).transpose()?.unwrap_or(0.0);
        // w_rec · reconstruction loss = task loss, by the definition of w_rec.
        let weighted = if losses.reconstruction.is_some() { task } else { 0.0 };
        let total = task + one_hot + budget + weighted;
        let (since, first) = std::mem::replace(&mut self.timer, (Instant::now(), self.step + 1));
        let steps = (self.step + 1 - first).max(1);
        Ok(StepMetrics {
            step: self.step,
            phase: self.phase,
            loss: Losses { task, one_hot, budget, reconstruction, total },
            lambda: self.lambda(),
            mask_ratio: self.mask_ratio(),
            macs_expected: self.expected_macs()?,
            macs_current: self.supernet.cost_model().cost(Metric::Macs, &self.supernet.sizes())?,
            lr: self.options.optimiser.weight_rate.at(self.step),
            skipped: self.non_finite.reported,
            step_ms: since.elapsed().as_secs_f64() * 1e3 / steps as f64,
            dimensions: self.dimension_metrics()?,
        })
    }

    /// Returns the expected cost in MACs. Where estimates decide, no candidate is half chosen: it is the
    /// cost at the sizes of the last round.
    fn expected_macs(&self) -> Result<f64> {
        if self.estimates() {
            let states = self.supernet.states().iter();
            let sizes = states.map(|state| (state.name.clone(), state.active.largest())).collect();
            return self.supernet.cost_model().cost(Metric::Macs, &sizes);
        }
        let costs = crate::autograd::no_grad(|| {
            let sets = self.supernet.active_sets()?;
            self.expected_cost()?.costs(&self.supernet.all_alphas(), &sets)
        })?;
        Ok(costs[0].f_double_value(&[])?)
    }

    fn expected_cost(&self) -> Result<ExpectedCost> {
        let (supernet, metrics) = (&self.supernet, [Metric::Macs]);
        ExpectedCost::new(supernet.cost_model(), supernet.space(), &metrics, supernet.device())
    }

    /// Returns entropy and expected units of every dimension during the search, in one transfer from
    /// the device.
    pub(super) fn dimension_metrics(&self) -> Result<BTreeMap<String, DimensionMetrics>> {
        let states = self.supernet.states();
        if self.phase != Phase::Search || states.is_empty() {
            return Ok(BTreeMap::new());
        }
        let numbers = crate::autograd::no_grad(|| {
            let mut parts = Vec::with_capacity(states.len() + 1);
            for state in states {
                parts.push(entropy(&state.active, &state.alpha)?);
            }
            let sets = self.supernet.active_sets()?;
            let sizes = self.expected_cost()?.sizes(&self.supernet.all_alphas(), &sets)?;
            parts.push(sizes.f_to_kind(Kind::Double)?);
            to_host(&Tensor::f_cat(&parts, 0)?)
        })?;
        let (entropies, sizes) = numbers.split_at(states.len());
        // Expected units and heads alternate.
        let numbers = entropies.iter().zip(sizes.chunks(2));
        let metrics = states.iter().zip(numbers).map(|(state, (entropy, sizes))| {
            let most = (state.candidates_at_start as f64).ln();
            let entropy = if most > 0.0 { entropy / most } else { 0.0 };
            let expected = match self.estimates() {
                true => state.active.largest().units() as f64,
                false => sizes[0],
            };
            (state.name.clone(), DimensionMetrics { entropy, expected })
        });
        Ok(metrics.collect())
    }
}

/// −Σ p ln p over the active candidates, `[1]`, f64.
fn entropy(active: &ActiveSet, alpha: &Tensor) -> Result<Tensor> {
    let log_p = active.log_probabilities(&alpha.f_to_kind(Kind::Double)?)?;
    // 0 · ln 0 = 0 for dropped candidates and where p underflows.
    let terms = log_p.f_exp()?.f_mul(&log_p.f_clamp_min(f64::MIN)?)?;
    Ok(terms.f_sum(None)?.f_abs()?.f_view([1])?)
}
