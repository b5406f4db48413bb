//! Logged steps. Beside prune steps, the only part of a step that reads from the device: once.

use super::events::{
    DimensionMetrics, Event, Listener, Losses, NonFiniteAction, Phase, StepMetrics,
};
use super::gradients::StepLosses;
use super::step::Search;
use super::update::NonFiniteCounts;
use crate::cost::{ExpectedCost, Metric};
use crate::models::Architecture;
use crate::tensors::ToHost;
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Numbers of a logged step.
struct Logged {
    counts: NonFiniteCounts,
    task: f64,
    one_hot: f64,
    budget: f64,
    reconstruction: f64,
    weighted_reconstruction: f64,
    /// Expected cost in MACs, where α is learned.
    expected_macs: f64,
    /// Entropy of p of every dimension.
    entropies: Vec<f64>,
    /// Expected units and heads of every dimension, by turns.
    sizes: Vec<f64>,
}

impl<A: Architecture> Search<A> {
    /// Emits the metrics of a step, or that steps were skipped. Reads from the device, once.
    pub(super) fn log(&mut self, losses: &StepLosses, listener: &mut dyn Listener) -> Result<()> {
        let logged = self.logged(losses)?;
        let NonFiniteCounts { skipped, in_a_row, reported, .. } = logged.counts;
        self.non_finite.reported = skipped;
        let first = self.first_not_finite(logged.counts);
        if skipped > reported {
            let (step, action) = (self.step + 1, NonFiniteAction::Skipped);
            let (first, unusable) = (first.clone(), Vec::new());
            let event = Event::NonFinite { step, skipped, in_a_row, action, first, unusable };
            listener.on_event(&event)?;
        }
        if in_a_row >= self.options.training.max_skipped_in_a_row {
            return Err(Error::Diverged { step: self.step, in_a_row, first });
        }
        if in_a_row == 0 {
            let metrics = self.metrics(&logged)?;
            listener.on_event(&Event::Step(metrics))?;
        }
        Ok(())
    }

    /// Reads everything that is logged, in one transfer from the device.
    fn logged(&self, losses: &StepLosses) -> Result<Logged> {
        let searches = self.phase == Phase::Search && !self.supernet.states().is_empty();
        let masked = [&losses.reconstruction, &losses.weighted_reconstruction];
        crate::autograd::no_grad(|| {
            let mut all = ToHost::default();
            let counts = all.push(&self.non_finite.numbers()?)?;
            let seen = std::iter::once(&losses.task).chain(masked.into_iter().flatten());
            let seen = seen.map(|own| own.f_reshape([-1])?.f_to_kind(Kind::Double));
            let seen = Tensor::f_cat(&seen.collect::<std::result::Result<Vec<_>, _>>()?, 0)?;
            let seen = all.push(&self.mean_of_ranks(seen)?)?;
            let [one_hot, budget] = [all.push(&losses.one_hot)?, all.push(&losses.budget)?];
            let (sizes, macs) = self.expected_cost()?;
            let expected_macs = all.push(&macs)?;
            let of_dimensions = match searches {
                true => Some([all.push(&self.entropies()?)?, all.push(&sizes)?]),
                false => None,
            };
            let numbers = all.numbers()?;
            let [entropies, sizes] = match of_dimensions {
                Some(own) => own.map(|own| numbers[own].to_vec()),
                None => Default::default(),
            };
            let mut seen = numbers[seen].iter().copied();
            let mut next = |given: bool| seen.by_ref().take(usize::from(given)).sum();
            let task = next(true);
            let [reconstruction, weighted_reconstruction] = masked.map(|own| next(own.is_some()));
            let [one_hot, budget, expected_macs] =
                [one_hot, budget, expected_macs].map(|own| numbers[own.start]);
            Ok(Logged {
                counts: self.non_finite.counts_of(&numbers[counts]),
                task,
                one_hot,
                budget,
                reconstruction,
                weighted_reconstruction,
                expected_macs,
                entropies,
                sizes,
            })
        })
    }

    /// Returns the metrics of a step.
    fn metrics(&mut self, logged: &Logged) -> Result<StepMetrics> {
        let &Logged { task, one_hot, budget, reconstruction, .. } = logged;
        let total = task + one_hot + budget + logged.weighted_reconstruction;
        let step_ms = self.timer.lap(self.step + 1);
        Ok(StepMetrics {
            step: self.step,
            phase: self.phase,
            loss: Losses { task, one_hot, budget, reconstruction, total },
            lambda: self.lambda(),
            mask_ratio: self.mask_ratio(),
            macs_expected: self.expected_macs(logged)?,
            macs_current: self.supernet.cost_model().cost(Metric::Macs, &self.supernet.sizes())?,
            lr: self.options.optimiser.weight_rate.at(self.step),
            skipped: self.non_finite.reported,
            step_ms,
            dimensions: self.dimension_metrics(logged),
        })
    }

    /// Returns the expected cost in MACs. Where estimates decide, no candidate is half chosen: it is the
    /// cost at the sizes of the last round.
    fn expected_macs(&self, logged: &Logged) -> Result<f64> {
        if !self.estimates() {
            return Ok(logged.expected_macs);
        }
        let states = self.supernet.states().iter();
        let sizes = states.map(|state| (state.name.clone(), state.active.largest())).collect();
        self.supernet.cost_model().cost(Metric::Macs, &sizes)
    }

    /// Returns the expected sizes of all dimensions, and the expected cost in MACs.
    fn expected_cost(&self) -> Result<(Tensor, Tensor)> {
        let (supernet, metrics) = (&self.supernet, [Metric::Macs]);
        let (model, device) = (supernet.cost_model(), supernet.device());
        let cost = ExpectedCost::new(model, supernet.space(), &metrics, device)?;
        let (alphas, sets) = (supernet.all_alphas(), supernet.active_sets()?);
        let macs = cost.costs(&alphas, &sets)?.remove(0);
        Ok((cost.sizes(&alphas, &sets)?, macs))
    }

    /// Returns −Σ p ln p over the active candidates of every dimension, `[dimensions]`, f64.
    fn entropies(&self) -> Result<Tensor> {
        let sets = self.supernet.active_sets()?;
        let logits = sets.logits(&self.supernet.all_alphas())?.f_to_kind(Kind::Double)?;
        let log_p = logits.f_log_softmax(-1, None)?;
        // 0 · ln 0 = 0 for dropped candidates and where p underflows.
        let terms = log_p.f_exp()?.f_mul(&log_p.f_clamp_min(f64::MIN)?)?;
        sets.in_order(&terms.f_sum_dim_intlist([1i64].as_slice(), false, None)?.f_abs()?)
    }

    /// Returns entropy and expected channels of every dimension during the search.
    fn dimension_metrics(&self, logged: &Logged) -> BTreeMap<String, DimensionMetrics> {
        let numbers = logged.entropies.iter().zip(logged.sizes.chunks(ExpectedCost::COUNTS));
        let states = self.supernet.states().iter().zip(&self.supernet.space().dimensions);
        let metrics = states.zip(numbers).map(|((state, own), (entropy, sizes))| {
            let most = (state.candidates_at_start as f64).ln();
            let entropy = if most > 0.0 { entropy / most } else { 0.0 };
            let units = match self.estimates() {
                true => state.active.largest().units() as f64,
                false => sizes[0],
            };
            let expected = units * own.channels_per_unit() as f64;
            (state.name.clone(), DimensionMetrics { entropy, expected })
        });
        metrics.collect()
    }
}
