//! Units on their way out: gates go from what they are to what they will be after the cut.

use super::flat::narrow_flat;
use crate::components::{BiMask, Mask, UnitState};
use crate::space::{ActiveSet, Role, Size};
use crate::tensors::to_host;
use crate::Result;
use tch::Tensor;

/// A cut that is under way in one dimension.
///
/// From its first step to its last the gates go, in a straight line, from where they were to those
/// of the narrowed dimension, with zeros for the units that leave. So nothing jumps when a candidate is
/// chosen, nor when the units are cut.
#[derive(Debug)]
pub struct FadeOut {
    /// Size after the cut.
    pub size: Size,
    /// Optimiser steps done when it began.
    pub since: u64,
    /// Share of the way that is left, 1 → 0.
    pub remaining: f64,
    /// Whether it is over and its units stay, with gates at zero: the network cannot be built
    /// smaller.
    pub in_place: bool,
    /// Flat indices of the units that stay, i64.
    pub(super) kept: Tensor,
    /// Gates when it began, `[heads, channels]`.
    pub(super) initial_gates: Tensor,
    /// Flat numbers of the candidates that fit, i64, and which of them are active.
    kept_candidates: Tensor,
    active: ActiveSet,
}

impl FadeOut {
    /// Begins to bring a dimension with these candidates, whose gates are `from`, down to the units
    /// `kept`, a grid of `size`.
    pub(super) fn new(
        active: &ActiveSet,
        kept: &Tensor,
        size: Size,
        initial_gates: &Tensor,
        since: u64,
    ) -> Result<Self> {
        let (active, kept_candidates) = active.narrowed(size)?;
        Ok(Self {
            size,
            since,
            remaining: 1.0,
            in_place: false,
            kept: kept.shallow_clone(),
            initial_gates: initial_gates.f_detach_copy()?,
            kept_candidates,
            active,
        })
    }

    /// Takes over which candidates are still active.
    pub(super) fn set_active(&mut self, active: &ActiveSet) -> Result<()> {
        (self.active, self.kept_candidates) = active.narrowed(self.size)?;
        Ok(())
    }

    /// The bi-mask of the narrowed dimension, scattered over the present units, and the way there.
    pub(super) fn mask(
        &self,
        bi_mask: &dyn BiMask,
        state: UnitState,
        pruned_importance: &Tensor,
        lambda: f64,
    ) -> Result<Mask> {
        let candidates = self.active.candidates();
        let score = narrow_flat(state.score, &self.kept, candidates.unit_shape())?;
        let alpha = narrow_flat(state.alpha, &self.kept_candidates, candidates.shape())?;
        let narrowed = UnitState {
            score: &score,
            alpha: &alpha,
            active: &self.active,
            pruned_importance: Some(pruned_importance),
        };
        let faded = bi_mask.mask(narrowed, lambda)?;
        let target = self.scatter(&faded.mask)?.f_mul_scalar(1.0 - self.remaining)?;
        Ok(Mask {
            importance: self.scatter(&faded.importance)?,
            sparsity: self.scatter(&faded.sparsity)?,
            mask: self.initial_gates.f_mul_scalar(self.remaining)?.f_add(&target)?,
        })
    }

    /// What multiplies an axis that is written by the dimension: what remains where units leave;
    /// elsewhere 1, or, for the scale of a norm, what undoes the fading of the others: with k units
    /// of d staying and the others at r, the norm divides by √((k + r²(d − k))/d) of what it did.
    pub(super) fn factor(&self, role: Role) -> Result<Tensor> {
        let (all, kept) =
            (self.initial_gates.size().iter().product::<i64>() as f64, self.size.units() as f64);
        let spread = (kept + self.remaining.powi(2) * (all - kept)) / all;
        let stays = if role == Role::Scaled { spread.sqrt() } else { 1.0 };
        let left = self.initial_gates.f_full_like(self.remaining)?.f_flatten(0, -1)?;
        Ok(left.f_index_fill(0, &self.kept, stays)?.f_view_as(&self.initial_gates)?)
    }

    /// Flat indices of the units that stay.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if they cannot be copied to the host.
    pub fn kept(&self) -> Result<Vec<i64>> {
        Ok(to_host(&self.kept)?.into_iter().map(|unit| unit as i64).collect())
    }

    /// Gates when it began, `[heads, channels]`.
    pub fn initial_gates(&self) -> &Tensor {
        &self.initial_gates
    }

    fn scatter(&self, values: &Tensor) -> Result<Tensor> {
        let zeros = self.initial_gates.f_zeros_like()?.f_flatten(0, -1)?;
        Ok(zeros.f_index_copy(0, &self.kept, &values.f_flatten(0, -1)?)?.f_view_as(&self.initial_gates)?)
    }
}
