//! The update of one optimiser step: clipping, skipping steps that are not finite, importance,
//! AdamW, EMA.

use super::events::Phase;
use super::finite::QUANTITIES;
use super::gradients::StepGradients;
use super::options::Stages;
use super::step::Search;
use crate::components::Observation;
use crate::error::expect_shape;
use crate::models::Architecture;
use crate::supernet::{Parameter, ParameterKind, Weights};
use crate::Result;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

impl<A: Architecture> Search<A> {
    /// Clips the norm of the gradient of all weights together, and sets all gradients to zero if
    /// one of them or a loss is not finite. Returns 1 if the step is made, 0 if it is skipped, on
    /// the device.
    pub(super) fn clip_and_guard(
        &mut self,
        parameters: &[Parameter],
        step: &mut StepGradients,
    ) -> Result<Tensor> {
        crate::autograd::no_grad(|| {
            let names = |weights: bool| -> Vec<String> {
                let kind = |p: &&Parameter| (p.kind == ParameterKind::Weight) == weights;
                let names = parameters.iter().filter(kind).map(|p| p.name.clone());
                names.filter(|name| step.parameters.contains_key(name)).collect()
            };
            let (weights, others) = (names(true), names(false));
            let norm = self.norm(&step.parameters, &weights)?;
            let checked = &step.losses.checked;
            let bad = checked.not_finite(&norm, &self.norm(&step.parameters, &others)?)?;
            let finite = bad.f_any()?.f_logical_not()?;
            bound(&mut step.parameters, &weights, &self.scale(&norm)?, &finite)?;
            bound(&mut step.parameters, &others, &norm.f_ones_like()?, &finite)?;
            let go = finite.f_to_kind(Kind::Float)?;
            self.non_finite.count(&go, &bad)?;
            Ok(go)
        })
    }

    /// Returns the norm of the named gradients together.
    fn norm(&self, gradients: &Weights, names: &[String]) -> Result<Tensor> {
        let norms = names.iter().map(|name| gradients[name].f_norm());
        let norms: Vec<Tensor> = norms.collect::<Result<_, _>>()?;
        match norms.is_empty() {
            true => Ok(Tensor::f_zeros([0i64; 0], (Kind::Float, self.supernet.device()))?),
            false => Ok(Tensor::f_stack(&norms, 0)?.f_norm()?),
        }
    }

    /// Returns the factor that brings a norm down to the largest allowed.
    fn scale(&self, norm: &Tensor) -> Result<Tensor> {
        let Some(largest) = self.options.optimiser.clip_norm else {
            return Ok(norm.f_ones_like()?);
        };
        let inverse = norm.f_add_scalar(1e-6)?.f_reciprocal()?;
        Ok(inverse.f_mul_scalar(largest)?.f_clamp_max(1.0)?)
    }

    /// Sets the scores of every undecided dimension to those that the importance component returns,
    /// and drops their gradients; scores it returns none for are the optimiser's. A skipped step
    /// (`go` is 0) leaves them.
    pub(super) fn update_importance(
        &mut self,
        step: &mut StepGradients,
        go: &Tensor,
    ) -> Result<()> {
        let weights = self.supernet.raw_weights();
        let dimensions = self.supernet.declared_space().dimensions;
        for (at, state) in self.supernet.states_mut().iter_mut().enumerate() {
            if state.active.decided().is_some() {
                continue;
            }
            let seen = Observation {
                dimension: &dimensions[at],
                score: &state.score,
                weights: &weights,
                gate: &step.gates[at],
                gate_gradient: &step.gate_gradients[at],
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
            step.parameters.remove(&state.score_name());
        }
        Ok(())
    }

    /// Updates the EMA of weights and scores, if the options want one.
    pub(super) fn update_ema(&mut self) -> Result<()> {
        let Some(ema) = &mut self.ema else { return Ok(()) };
        let parameters = self.supernet.parameters();
        let averaged = parameters.iter().filter(|p| p.kind != ParameterKind::Alpha);
        ema.update(averaged.map(|p| (&p.name, &p.value)))
    }

    pub(super) fn update(
        &mut self,
        parameters: Vec<Parameter>,
        gradients: &Weights,
        go: &Tensor,
    ) -> Result<()> {
        let options = self.options.optimiser;
        let weight_rate = options.weight_rate.at(self.step);
        for mut parameter in parameters {
            if self.is_frozen(parameter.kind) {
                continue;
            }
            let Some(gradient) = gradients.get(&parameter.name) else { continue };
            let (rate, mut group) = match parameter.kind {
                ParameterKind::Weight | ParameterKind::Reconstruction => {
                    (weight_rate, options.weights)
                }
                ParameterKind::Score => (self.score_rate(weight_rate), options.weights),
                ParameterKind::Alpha => (options.alpha_rate, options.alpha),
            };
            if !parameter.decays() {
                group.weight_decay = 0.0;
            }
            let (name, value) = (&parameter.name, &mut parameter.value);
            self.optimiser.update(name, value, gradient, go, rate, &group)?;
        }
        Ok(())
    }

    /// Returns whether parameters of a kind are frozen in this step.
    fn is_frozen(&self, kind: ParameterKind) -> bool {
        let stage = match (self.phase, self.options.stages) {
            (Phase::Search, Stages::Two { importance_steps }) => Some(self.step < importance_steps),
            _ => None,
        };
        match kind {
            ParameterKind::Weight => self.options.training.freeze_weights,
            ParameterKind::Reconstruction => false,
            ParameterKind::Score => stage == Some(false),
            ParameterKind::Alpha => stage == Some(true) || self.estimates(),
        }
    }

    /// Learning rate of the scores: once all dimensions are decided a score is a plain scale, and
    /// has the rate of the weights.
    fn score_rate(&self, weight_rate: f64) -> f64 {
        match self.phase {
            Phase::Search => self.options.optimiser.score_rate,
            Phase::Finetune => weight_rate,
        }
    }
}

/// Multiplies gradients by a scale, or sets them to zero unless all was finite.
fn bound(gradients: &mut Weights, names: &[String], scale: &Tensor, finite: &Tensor) -> Result<()> {
    let zero = scale.f_zeros_like()?;
    for name in names {
        if let Some(gradient) = gradients.get_mut(name) {
            *gradient = gradient.f_mul(scale)?.f_where_self(finite, &zero)?;
        }
    }
    Ok(())
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
        let first = Tensor::f_from_slice(&first)?.f_to_device(device)?;
        Ok(Self { skipped, in_a_row, first, reported: counts.reported })
    }

    /// Counts a step that is made (`go` is 1) or skipped (0), where the quantities flagged in `bad`
    /// were not finite.
    pub(super) fn count(&mut self, go: &Tensor, bad: &Tensor) -> Result<()> {
        let skips = go.f_ne(1)?;
        let begins = self.in_a_row.f_eq(0)?.f_logical_and(&skips)?;
        self.first = bad.f_where_self(&begins, &self.first)?;
        let stop = skips.f_to_kind(Kind::Int64)?;
        self.skipped = self.skipped.f_add(&stop)?;
        self.in_a_row = self.in_a_row.f_add(&stop)?.f_mul(&stop)?;
        Ok(())
    }

    /// Returns the counters. Reads from the device.
    pub(super) fn counts(&self) -> Result<NonFiniteCounts> {
        let read = |count: &Tensor| count.f_int64_value(&[]);
        let (skipped, in_a_row) = (read(&self.skipped)?, read(&self.in_a_row)?);
        let flags = Vec::<bool>::try_from(self.first.f_to_device(Device::Cpu)?)?;
        let first = flags.iter().rev().fold(0, |bits, &flag| bits << 1 | u32::from(flag));
        Ok(NonFiniteCounts {
            skipped: skipped as u64,
            in_a_row: in_a_row as u64,
            reported: self.reported,
            first,
        })
    }
}
