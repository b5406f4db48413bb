//! Bi-masks of all dimensions, and their gates in fade-outs.

use super::{DimensionState, Supernet};
use crate::components::{check_lambda, Mask, UnitState};
use crate::models::Architecture;
use crate::space::{ActiveSet, ActiveSets, Size};
use crate::tensors::joined;
use crate::transfer::upload;
use crate::Result;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

impl<A: Architecture> Supernet<A> {
    /// Returns the gates of all dimensions at λ, with gradients to scores and α: the bi-mask (paper
    /// eq. 5), or the gates of a fade-out in progress ([`FadeOut`](super::FadeOut)).
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if λ is outside [0, 1].
    pub fn masks(&self, lambda: f64) -> Result<Vec<Mask>> {
        check_lambda("lambda", lambda)?;
        let Some(bi_mask) = self.states.first().map(|state| Arc::clone(&state.bi_mask)) else {
            return Ok(Vec::new());
        };
        let mut plan = self.mask_plan.borrow_mut();
        let plan = match plan.take().filter(|known| known.is_of(&self.states)) {
            Some(known) => plan.insert(known),
            None => plan.insert(MaskPlan::new(&self.states, self.device)?),
        };
        let Some(fading) = &plan.fading else {
            let states: Vec<UnitState> = self.states.iter().map(DimensionState::units).collect();
            return bi_mask.masks(&states, &plan.sets, lambda);
        };
        let narrowed = fading.narrowed(&self.states, &plan.sets)?;
        let states: Vec<UnitState> =
            self.states.iter().zip(&narrowed).map(|(state, own)| own.units(state)).collect();
        fading.faded(&self.states, bi_mask.masks(&states, &plan.sets, lambda)?)
    }
}

/// Index tensors of [`Supernet::masks`], which change when candidates are dropped, and when a fade-out
/// begins or ends.
#[derive(Debug)]
pub(super) struct MaskPlan {
    /// Active candidates: in a fade-out, those within the size after pruning.
    sets: ActiveSets,
    /// Beginning and size of every fade-out.
    fade_outs: Vec<Option<(u64, Size)>>,
    /// `None` if no gates fade out.
    fading: Option<Fading>,
}

impl MaskPlan {
    fn new(states: &[DimensionState], device: Device) -> Result<Self> {
        let fade_outs = fade_outs(states);
        let fading = fade_outs.iter().any(Option::is_some);
        Ok(Self {
            sets: ActiveSets::new(&masked(states), device)?,
            fading: fading.then(|| Fading::new(states, device)).transpose()?,
            fade_outs,
        })
    }

    fn is_of(&self, states: &[DimensionState]) -> bool {
        self.sets.are_of(&masked(states)) && self.fade_outs == fade_outs(states)
    }
}

/// Returns the active candidates that the bi-mask of every dimension is computed from.
fn masked(states: &[DimensionState]) -> Vec<&ActiveSet> {
    states.iter().map(|own| own.fade_out.as_ref().map_or(&own.active, |f| &f.active)).collect()
}

fn fade_outs(states: &[DimensionState]) -> Vec<Option<(u64, Size)>> {
    states.iter().map(|own| own.fade_out.as_ref().map(|f| (f.since, f.size))).collect()
}

impl DimensionState {
    /// Returns what the bi-mask is computed from, without a fade-out.
    fn units(&self) -> UnitState<'_> {
        UnitState {
            score: &self.score,
            alpha: &self.alpha,
            active: &self.active,
            pruned_importance: self.pruned_importance.as_ref(),
        }
    }
}

/// Fade-outs of all dimensions, as index tensors over the units and candidates of all dimensions.
#[derive(Debug)]
struct Fading {
    /// Kept units, and all units of dimensions without a fade-out.
    kept_units: Tensor,
    /// Candidates within the sizes after pruning.
    kept_candidates: Tensor,
    /// For every unit, its place among the kept ones, or the place after the last.
    places: Tensor,
    /// m₀ of every unit; 0 in dimensions without a fade-out.
    initial_gates: Tensor,
    dimension_of_unit: Tensor,
    /// Units of every dimension.
    units: Vec<i64>,
}

/// Scores, α and pruned importance of the units that are kept.
struct Narrowed {
    score: Tensor,
    alpha: Tensor,
    pruned_importance: Option<Tensor>,
}

impl Narrowed {
    fn units<'a>(&'a self, state: &'a DimensionState) -> UnitState<'a> {
        UnitState {
            score: &self.score,
            alpha: &self.alpha,
            active: state.fade_out.as_ref().map_or(&state.active, |own| &own.active),
            pruned_importance: self.pruned_importance.as_ref(),
        }
    }
}

impl Fading {
    fn new(states: &[DimensionState], device: Device) -> Result<Self> {
        let number = |length: i64| Tensor::f_arange(length, (Kind::Int64, device));
        let [mut units, mut candidates, mut gates] = [Vec::new(), Vec::new(), Vec::new()];
        let (mut first_unit, mut first_candidate) = (0, 0);
        for state in states {
            let (own, count) = (state.candidates().units(), state.candidates().len() as i64);
            let (kept, within, initial) = match &state.fade_out {
                Some(own) => (
                    own.kept.shallow_clone(),
                    own.kept_candidates.shallow_clone(),
                    own.initial_gates.f_reshape([-1])?,
                ),
                None => {
                    let zeros = Tensor::f_zeros([own], (Kind::Float, device))?;
                    (number(own)?, number(count)?, zeros)
                }
            };
            units.push(kept.f_add_scalar(first_unit)?);
            candidates.push(within.f_add_scalar(first_candidate)?);
            gates.push(initial);
            first_unit += own;
            first_candidate += count;
        }
        let kept_units = Tensor::f_cat(&units, 0)?;
        let kept = kept_units.size1()?;
        let places = Tensor::f_full([first_unit], kept, (Kind::Int64, device))?;
        let units: Vec<i64> = states.iter().map(|own| own.candidates().units()).collect();
        let dimension = units.iter().zip(0i64..).flat_map(|(&n, at)| vec![at; n as usize]);
        Ok(Self {
            places: places.f_index_copy(0, &kept_units, &number(kept)?)?,
            kept_units,
            kept_candidates: Tensor::f_cat(&candidates, 0)?,
            initial_gates: Tensor::f_cat(&gates, 0)?,
            dimension_of_unit: upload(&dimension.collect::<Vec<_>>(), device)?,
            units,
        })
    }

    /// Returns the states of the kept units.
    fn narrowed(&self, states: &[DimensionState], sets: &ActiveSets) -> Result<Vec<Narrowed>> {
        let score = joined(states.iter().map(|own| &own.score))?;
        let alpha = joined(states.iter().map(|own| &own.alpha))?;
        let scores = sets.split_units(&score.f_index_select(0, &self.kept_units)?)?;
        let alphas = sets.split_candidates(&alpha.f_index_select(0, &self.kept_candidates)?)?;
        let own = states.iter().zip(scores.into_iter().zip(alphas));
        let narrowed = own.map(|(state, (score, alpha))| {
            let pruned_importance = match &state.fade_out {
                Some(own) => {
                    let at = || state.pruned_importance_at(&own.kept, own.size);
                    Some(crate::autograd::no_grad(at)?)
                }
                None => state.pruned_importance.as_ref().map(Tensor::shallow_clone),
            };
            Ok(Narrowed { score, alpha, pruned_importance })
        });
        narrowed.collect()
    }

    /// Returns the gates m = r·m₀ + (1 − r)·m₁; importance and sparsity are those of m₁, with 0 for
    /// the units to prune.
    fn faded(&self, states: &[DimensionState], masks: Vec<Mask>) -> Result<Vec<Mask>> {
        let terms = [
            joined(masks.iter().map(|own| &own.importance))?,
            joined(masks.iter().map(|own| &own.sparsity))?,
            joined(masks.iter().map(|own| &own.mask))?,
        ];
        let terms = Tensor::f_stack(&terms, 0)?.f_constant_pad_nd([0, 1])?;
        let terms = terms.f_index_select(1, &self.places)?.f_unbind(0)?;
        let [importance, sparsity, target] = &terms[..] else {
            return Ok(masks);
        };
        let remaining = states.iter().map(|own| own.fade_out.as_ref().map_or(0.0, |f| f.remaining));
        let remaining: Vec<f32> = remaining.map(|r| r as f32).collect();
        let remaining = upload(&remaining, target.device())?;
        let remaining = remaining.f_index_select(0, &self.dimension_of_unit)?;
        let rest = remaining.f_neg()?.f_add_scalar(1.0)?;
        let mask = self.initial_gates.f_mul(&remaining)?.f_add(&target.f_mul(&rest)?)?;
        let split = |own: &Tensor| own.f_split_with_sizes(&self.units[..], 0);
        let terms = split(importance)?.into_iter().zip(split(sparsity)?).zip(split(&mask)?);
        let shaped = terms.zip(states).map(|(((importance, sparsity), mask), state)| {
            let shape = state.candidates().unit_shape();
            Ok(Mask {
                importance: importance.f_view(shape)?,
                sparsity: sparsity.f_view(shape)?,
                mask: mask.f_view(shape)?,
            })
        });
        shaped.collect()
    }
}
