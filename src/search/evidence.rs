//! Estimated losses: how much the loss would rise if a dimension were pruned to each candidate size.
//!
//! In a step, the first-order effect of pruning unit u on the mean loss of the B images is
//! e_u = −m_u·∂L/∂m_u, and that of pruning the set U is Σ_{u∈U} e_u. In a trained network its mean is
//! near zero and says little; its variance over images is, by the Gauss–Newton (Fisher) approximation
//! of the Hessian, the second-order term:
//!
//!   L(k) = ½·B·E[(Σ_{u∈U(k)} e_u)²],  U(k): the units that candidate k does not keep,
//!
//! with the mean over the last steps (Fisher pruning, Theis et al. 2018, arXiv 1801.05787; here for
//! sets of units). L is in units of the loss, so it can be added over dimensions.
//!
//! L knows nothing of recovery. What pruned channels and neurons did is learned by those that stay; a
//! pruned head takes its attention pattern with it. So L of candidates with fewer heads counts
//! `pruning.head_factor` times.
//!
//! Gates of an embedding multiply the layers that make the tokens only. Pruning an embedding channel
//! takes it from every layer that reads it, so its effect is −Σ θ·∂L/∂θ over these layers' columns.

use super::step::Search;
use crate::models::Architecture;
use crate::space::{DimensionKind, Role};
use crate::supernet::{Narrowing, Weights};
use crate::tensors::to_host;
use crate::Result;
use tch::Tensor;

/// Most optimiser steps whose effects are kept.
pub(super) const WINDOW: i64 = 20;

/// First-order effects of the units of every dimension in the last optimiser steps.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// √B·e of every dimension, `[steps, heads, channels]`; empty before the first step.
    pub(super) effects: Vec<Tensor>,
}

impl Evidence {
    /// Adds the effects of one step, of a mean over `images` images, shaped like the scores; zeros for
    /// a skipped step (`go` is 0).
    fn add(&mut self, effects: &[Tensor], images: i64, go: &Tensor) -> Result<()> {
        let made = go.f_gt(0.5)?;
        for (at, own) in effects.iter().enumerate() {
            let scaled = own.f_mul_scalar((images as f64).sqrt())?;
            let row = scaled.f_where_self(&made, &scaled.f_zeros_like()?)?.f_unsqueeze(0)?;
            match self.effects.get_mut(at) {
                None => self.effects.push(row),
                Some(all) => {
                    let joined = Tensor::f_cat(&[all.shallow_clone(), row], 0)?;
                    let steps = joined.size()[0];
                    *all = joined.f_narrow(0, (steps - WINDOW).max(0), steps.min(WINDOW))?;
                }
            }
        }
        Ok(())
    }

    /// Removes pruned units. `scores`: names of the scores of all dimensions.
    pub(super) fn narrow(&mut self, narrowing: &Narrowing, scores: &[String]) -> Result<()> {
        for (effects, score) in self.effects.iter_mut().zip(scores) {
            let rows = (0..effects.size()[0]).map(|row| effects.f_get(row));
            let rows = rows.map(|row| narrowing.apply(score, &row?)).collect::<Result<Vec<_>>>()?;
            *effects = Tensor::f_stack(&rows, 0)?;
        }
        Ok(())
    }
}

impl<A: Architecture> Search<A> {
    /// Returns the first-order effect e of pruning each unit in a step, shaped like the scores; nothing
    /// where no decision needs it.
    ///
    /// `gradients`: of θ, before they are clipped.
    pub(super) fn effects(
        &self,
        gates: &[Tensor],
        gate_gradients: &[Tensor],
        gradients: &Weights,
    ) -> Result<Vec<Tensor>> {
        if !self.needs_evidence() {
            return Ok(Vec::new());
        }
        tch::no_grad(|| {
            let space = self.supernet.declared_space();
            let weights = self.supernet.raw_weights();
            let pairs = gates.iter().zip(gate_gradients).zip(&space.dimensions);
            pairs
                .map(|((gate, gradient), dimension)| {
                    let read = match dimension.kind {
                        DimensionKind::Embedding => reading(dimension, &weights, gradients)?,
                        _ => None,
                    };
                    match read {
                        Some(effect) => Ok(effect.f_neg()?.f_view_as(gate)?),
                        None => Ok(gate.f_mul(gradient)?.f_neg()?),
                    }
                })
                .collect()
        })
    }

    /// Adds the effects of one step to the evidence.
    pub(super) fn remember(&mut self, effects: &[Tensor], images: i64, go: &Tensor) -> Result<()> {
        tch::no_grad(|| self.evidence.add(effects, images, go))
    }

    /// Returns L of every candidate of every dimension, in the order of the candidates; 0 without
    /// evidence. Reads from the device.
    pub(super) fn estimated_losses(&self) -> Result<Vec<Vec<f64>>> {
        let states = self.supernet.states().iter().enumerate();
        states
            .map(|(at, state)| {
                let Some(effects) = self.evidence.effects.get(at) else {
                    return Ok(vec![0.0; state.candidates().len()]);
                };
                let units = state.candidates().units() as usize;
                let effects = to_host(effects)?;
                state
                    .candidates()
                    .sizes()
                    .map(|size| {
                        let mut pruned = vec![true; units];
                        to_host(&state.kept_units(size)?)?
                            .into_iter()
                            .for_each(|unit| pruned[unit as usize] = false);
                        let fewer = size.heads < state.candidates().heads();
                        let factor = if fewer { self.options.pruning.head_factor } else { 1.0 };
                        Ok(factor * loss(&effects, &pruned))
                    })
                    .collect()
            })
            .collect()
    }
}

/// ½·(mean over the steps of (Σ over pruned units of √B·e)²).
fn loss(effects: &[f64], pruned: &[bool]) -> f64 {
    let rows = effects.chunks_exact(pruned.len().max(1));
    let steps = rows.len().max(1) as f64;
    let sums = rows.map(|row| {
        let own = row.iter().zip(pruned).filter(|(_, pruned)| **pruned);
        own.map(|(effect, _)| effect).sum::<f64>().powi(2)
    });
    0.5 * sums.sum::<f64>() / steps
}

/// Returns Σ θ·∂L/∂θ over the columns of every layer that reads a unit, `[units]`; `None` if no
/// binding is that of a reading layer: sliced with the dimension on an input axis, and not multiplied.
fn reading(
    dimension: &crate::space::Dimension,
    weights: &Weights,
    gradients: &Weights,
) -> Result<Option<Tensor>> {
    let mut sum: Option<Tensor> = None;
    for binding in dimension.bindings.iter().filter(|b| b.role == Role::Narrowed && b.axis > 0) {
        let name = &binding.variable;
        let (Some(weight), Some(gradient)) = (weights.get(name), gradients.get(name)) else {
            continue;
        };
        let product = weight.f_mul(gradient)?.f_reshape(binding.view(&weight.size()))?;
        let own = product.f_sum_dim_intlist([0i64, 2].as_slice(), false, None)?;
        sum = Some(match sum {
            None => own,
            Some(sum) => sum.f_add(&own)?,
        });
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_of_hand_made_effects_is_half_the_mean_square_of_their_sum() {
        let effects = [1.0, 2.0, 4.0, 3.0, -1.0, 8.0];
        assert_eq!(loss(&effects, &[true, true, false]), 0.5 * (9.0 + 4.0) / 2.0);
        assert_eq!(loss(&effects, &[false; 3]), 0.0);
    }

    #[test]
    fn loss_of_a_scaled_loss_is_scaled_by_the_square_in_every_dimension() {
        let effects = [0.5, -0.25, 1.0, 2.0];
        let scaled = effects.map(|effect| 5.0 * effect);
        for pruned in [[true, false], [false, true], [true, true]] {
            assert_eq!(loss(&scaled, &pruned), 25.0 * loss(&effects, &pruned));
        }
    }
}
