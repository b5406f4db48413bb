//! The update of one optimiser step: clipping, skipping steps that are not finite, importance,
//! AdamW, EMA.

use super::events::Phase;
use super::finite::{Checked, QUANTITIES};
use super::flat_gradients::FlatGradients;
use super::options::Stages;
use super::step::Search;
use crate::components::Observation;
use crate::error::expect_shape;
use crate::models::Architecture;
use crate::optim::{AdamWOptions, AdamWUpdate, FlatTensors, Layout};
use crate::space::Dimension;
use crate::supernet::{decays, ParameterKind, Weights};
use crate::tensors::to_host;
use crate::transfer::upload;
use crate::Result;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Gradients of all parameters, laid out like the supernet's.
pub(super) struct ParameterGradients {
    weights: FlatGradients,
    scores: FlatGradients,
    alphas: FlatGradients,
}

impl ParameterGradients {
    /// Leaves out parameters, which the optimiser then does not update.
    pub(super) fn without(mut self, names: &[String]) -> Self {
        for name in names {
            self.scores.reached.remove(name);
        }
        self
    }
}

impl<A: Architecture> Search<A> {
    /// Lays the gradients of scores and α out like the parameters.
    pub(super) fn laid_out(
        &self,
        weights: FlatGradients,
        learned: &Weights,
    ) -> Result<ParameterGradients> {
        let device = self.supernet.device();
        let own = |parameters: &FlatTensors| {
            FlatGradients::named_like(parameters.layout(), device, learned)
        };
        let (scores, alphas) = (own(self.supernet.scores())?, own(self.supernet.alphas())?);
        Ok(ParameterGradients { weights, scores, alphas })
    }

    /// Clips the norm of the gradient of all weights together, and sets all gradients to zero if
    /// one of them or a loss is not finite. Returns 1 if the step is made, 0 if it is skipped, on
    /// the device.
    pub(super) fn clip_and_guard(
        &mut self,
        gradients: &ParameterGradients,
        checked: &Checked,
    ) -> Result<Tensor> {
        crate::autograd::no_grad(|| {
            let weights = &gradients.weights.tensors;
            let [clipped, others] = [ParameterKind::Weight, ParameterKind::Reconstruction]
                .map(|kind| self.ranges(weights.layout(), kind));
            let learned = [&gradients.scores.tensors, &gradients.alphas.tensors];
            let norm = self.norm(&weights.row_norms(clipped.iter().cloned())?)?;
            let mut other_norms = weights.row_norms(others)?;
            for own in learned {
                other_norms.extend(own.row_norms(own.whole())?);
            }
            let bad = self.any_rank(checked.not_finite(&norm, &self.norm(&other_norms)?)?)?;
            let skips = bad.f_any()?;
            if let Some(largest) = self.options.optimiser.clip_norm {
                let excess = norm.f_add_scalar(1e-6)?.f_mul_scalar(1.0 / largest)?;
                let divisor = excess.f_clamp_min(1.0)?;
                for range in &clipped {
                    let _ = weights.range(range)?.f_div_(&divisor)?;
                }
            }
            for own in [weights].into_iter().chain(learned) {
                let _ = own.data().shallow_clone().f_masked_fill_(&skips, 0.0)?;
            }
            self.non_finite.count(&skips, &bad)?;
            Ok(skips.f_logical_not()?.f_to_kind(Kind::Float)?)
        })
    }

    /// Returns the norm of all elements from the norms of their rows.
    fn norm(&self, rows: &[Tensor]) -> Result<Tensor> {
        match rows {
            [] => Ok(Tensor::f_zeros([0i64; 0], (Kind::Float, self.supernet.device()))?),
            [rows] => Ok(rows.f_norm()?),
            rows => Ok(Tensor::f_cat(rows, 0)?.f_norm()?),
        }
    }

    /// Returns the ranges of the weights of a kind in θ.
    fn ranges(&self, layout: &Layout, kind: ParameterKind) -> Vec<Range<i64>> {
        let runs = layout.runs(|own| (self.supernet.kind_of(&own.name) == kind).then_some(()));
        runs.into_iter().map(|(_, range)| range).collect()
    }

    /// Sets the scores of every undecided dimension to those that the importance component returns,
    /// and returns their parameter names; scores it returns none for are the optimiser's, and so are those of a
    /// dimension whose weights were all removed with a branch. A skipped step (`go` is 0) leaves them, and so does the
    /// second of two stages.
    pub(super) fn update_importance(
        &mut self,
        gates: &[Tensor],
        gate_gradients: &[Tensor],
        go: &Tensor,
    ) -> Result<Vec<String>> {
        let mut computed = Vec::new();
        if self.phase != Phase::Search || self.frozen().contains(&ParameterKind::Score) {
            return Ok(computed);
        }
        let weights = self.supernet.raw_weights();
        let dimensions = self.supernet.dimensions_of_weights().into_iter();
        let states = self.supernet.states_mut().iter_mut().zip(dimensions);
        for (at, (state, dimension)) in states.enumerate() {
            if state.active.decided().is_some() {
                continue;
            }
            let Some(dimension) = with_present_weights(dimension, &weights) else { continue };
            let seen = Observation {
                dimension: &dimension,
                score: &state.score,
                weights: &weights,
                gate: &gates[at],
                gate_gradient: &gate_gradients[at],
            };
            let Some(score) = crate::autograd::no_grad(|| self.components.importance.update(seen))?
            else {
                continue;
            };
            expect_shape("importance", &state.name, &score, &state.score.size())?;
            crate::autograd::no_grad(|| {
                let score = score.f_where_self(&go.f_gt(0.5)?, &state.score)?;
                state.score.f_copy_(&score)
            })?;
            computed.push(state.score_name());
        }
        Ok(computed)
    }

    /// Updates the EMA of weights and scores, if the options want one.
    pub(super) fn update_ema(&mut self) -> Result<()> {
        let Some(ema) = &mut self.ema else { return Ok(()) };
        ema.update(&[self.supernet.theta(), self.supernet.scores()])
    }

    /// Updates weights, scores and α by AdamW. The gradients are overwritten.
    pub(super) fn update(&mut self, gradients: ParameterGradients, go: &Tensor) -> Result<()> {
        let options = self.options.optimiser;
        let weight_rate = options.weight_rate.at(self.step);
        let ParameterGradients { weights, scores, alphas } = gradients;
        let (frozen, score_rate) = (self.frozen(), self.score_rate(weight_rate));
        let supernet = &self.supernet;
        let mut update =
            |parameters: &FlatTensors, own: FlatGradients, rate, group: AdamWOptions| {
                let FlatGradients { tensors, reached } = own;
                self.optimiser.update(parameters, tensors, go, |segment| {
                    let kind = supernet.kind_of(&segment.name);
                    if frozen.contains(&kind) || !reached.contains(&segment.name) {
                        return None;
                    }
                    let decays = decays(kind, &segment.name, &segment.shape);
                    let weight_decay = if decays { group.weight_decay } else { 0.0 };
                    Some(AdamWUpdate { rate, options: AdamWOptions { weight_decay, ..group } })
                })
            };
        update(supernet.theta(), weights, weight_rate, options.weights)?;
        update(supernet.scores(), scores, score_rate, options.weights)?;
        update(supernet.alphas(), alphas, options.alpha_rate.unwrap_or(weight_rate), options.alpha)
    }

    /// Returns the kinds of parameters that are frozen in this step.
    fn frozen(&self) -> Vec<ParameterKind> {
        let stage = match (self.phase, self.options.stages) {
            (Phase::Search, Stages::Two { importance_steps }) => Some(self.step < importance_steps),
            _ => None,
        };
        let frozen = [
            (
                ParameterKind::Weight,
                self.phase == Phase::Search && self.options.training.freeze_weights,
            ),
            (ParameterKind::Score, stage == Some(false)),
            (ParameterKind::Alpha, stage == Some(true) || self.estimates()),
        ];
        frozen.into_iter().filter(|(_, frozen)| *frozen).map(|(kind, _)| kind).collect()
    }

    /// Learning rate of the scores: once all dimensions are decided a score is a plain scale, and
    /// has the rate of the weights.
    fn score_rate(&self, weight_rate: f64) -> f64 {
        match self.phase {
            Phase::Search => self.options.optimiser.score_rate.unwrap_or(weight_rate),
            Phase::Finetune => weight_rate,
        }
    }
}

/// Returns a dimension without the bindings of variables that were removed with a branch; `None` if its gates multiply
/// none any more, as those of queries and keys whose attention was removed.
fn with_present_weights(mut dimension: Dimension, weights: &Weights) -> Option<Dimension> {
    let declared = dimension.bindings.len();
    dimension.bindings.retain(|own| weights.contains_key(&own.variable));
    let gated = dimension.bindings.iter().any(|own| own.role.is_gated());
    (gated || dimension.bindings.len() == declared).then_some(dimension)
}

/// Counters of skipped steps on the device: the host reads them at logged steps only.
#[derive(Debug)]
pub(super) struct NonFiniteCounter {
    skipped: Tensor,
    in_a_row: Tensor,
    /// What was not finite at the first of the latest skipped steps in a row: one flag for each of
    /// [`QUANTITIES`](super::finite::QUANTITIES).
    first: Tensor,
    /// Skipped steps as of the last logged step.
    pub(super) reported: u64,
}

/// Counters of skipped steps on the host, as a checkpoint stores them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NonFiniteCounts {
    /// Steps skipped in all.
    pub(super) skipped: u64,
    /// Steps skipped in a row up to now.
    pub(super) in_a_row: u64,
    /// Steps skipped as of the last logged step.
    pub(super) reported: u64,
    /// What was not finite at the first of the latest skipped steps in a row: bit n for number n of
    /// [`QUANTITIES`](super::finite::QUANTITIES).
    #[serde(default)]
    pub(super) first: u32,
}

impl NonFiniteCounter {
    /// A counter that continues from `counts`.
    pub(super) fn new(counts: NonFiniteCounts, device: Device) -> Result<Self> {
        let count = |n: u64| -> Result<Tensor> {
            Ok(Tensor::f_full([0i64; 0], n as i64, (Kind::Int64, device))?)
        };
        let (skipped, in_a_row) = (count(counts.skipped)?, count(counts.in_a_row)?);
        let first: Vec<bool> =
            (0..QUANTITIES.len()).map(|at| counts.first >> at & 1 == 1).collect();
        let first = upload(&first, device)?;
        Ok(Self { skipped, in_a_row, first, reported: counts.reported })
    }

    /// Counts a step that is skipped or made, where the quantities flagged in `bad` were not finite.
    fn count(&mut self, skips: &Tensor, bad: &Tensor) -> Result<()> {
        let begins = self.in_a_row.f_eq(0)?.f_logical_and(skips)?;
        self.first = bad.f_where_self(&begins, &self.first)?;
        let stop = skips.f_to_kind(Kind::Int64)?;
        self.skipped = self.skipped.f_add(&stop)?;
        self.in_a_row = self.in_a_row.f_add(&stop)?.f_mul(&stop)?;
        Ok(())
    }

    /// Returns the counters. Reads from the device.
    pub(super) fn counts(&self) -> Result<NonFiniteCounts> {
        Ok(self.counts_of(&to_host(&self.numbers()?)?))
    }

    /// Returns the counters as numbers on the device, `[2 + flags]`, f64.
    pub(super) fn numbers(&self) -> Result<Tensor> {
        let counters = Tensor::f_stack(&[&self.skipped, &self.in_a_row], 0)?;
        let parts = [counters.f_to_kind(Kind::Double)?, self.first.f_to_kind(Kind::Double)?];
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// Returns the counters that [`numbers`](Self::numbers) are.
    pub(super) fn counts_of(&self, numbers: &[f64]) -> NonFiniteCounts {
        let count = |at: usize| numbers.get(at).map_or(0, |&count| count as u64);
        let flags = numbers.iter().skip(2).rev();
        NonFiniteCounts {
            skipped: count(0),
            in_a_row: count(1),
            reported: self.reported,
            first: flags.fold(0, |bits, &flag| bits << 1 | u32::from(flag != 0.0)),
        }
    }
}
