//! The bi-mask of one dimension.

use super::rank::{head_ranks, ranks};
use super::ComponentId;
use crate::error::expect_shape;
use crate::space::ActiveSet;
use crate::tensors::widened;
use crate::{Error, Result};
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// What a bi-mask is computed from.
#[derive(Debug, Clone, Copy)]
pub struct UnitState<'a> {
    /// Scores, `[heads, channels]` (`[1, units]` for a flat dimension).
    pub score: &'a Tensor,
    /// Candidate logits α, `[head counts, channel widths]`.
    pub alpha: &'a Tensor,
    /// The candidates, and which of them are still in the running.
    pub active: &'a ActiveSet,
    /// Importance of channels that have left, by head, `[heads]`.
    pub pruned_importance: Option<&'a Tensor>,
}

/// A bi-mask and its two halves, each shaped like the scores.
#[derive(Debug)]
pub struct Mask {
    /// S, in [0, 1].
    pub importance: Tensor,
    /// V, in [0, 1].
    pub sparsity: Tensor,
    /// m = λ·S + (1−λ)·V.
    pub mask: Tensor,
}

/// How the units of a dimension are weighed.
///
/// Gradients reach scores only through [`importance`](Self::importance), α only through
/// [`sparsity`](Self::sparsity): ranks are constants.
///
/// # Kinds
/// Scores and α may be f64, f32, f16 or bf16. Half kinds are computed in f32 and rounded once, so
/// S and V lie within one unit roundoff u of the exact value and m within two, relative (and
/// within the smallest subnormal): u = 2⁻¹¹ for f16, 2⁻⁸ for bf16. In f32 all three lie within
/// 1e-6.
pub trait BiMask: Debug + Send + Sync {
    /// Name and parameters, by which a checkpoint recognises the component.
    fn id(&self) -> ComponentId;

    /// S of every unit, shaped like the score and differentiable in it.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch refuses.
    fn importance(&self, score: &Tensor) -> Result<Tensor>;

    /// V of every unit, `[heads, channels]`, differentiable in α.
    ///
    /// # Errors
    /// [`Error::Shape`] if scores or α are not those of the candidates.
    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor>;

    /// m = λ·S + (1−λ)·V (paper eq. 5).
    ///
    /// # Errors
    /// [`Error::Invalid`] if λ is outside [0, 1], and those of the two halves.
    fn mask(&self, state: UnitState, lambda: f64) -> Result<Mask> {
        check_lambda("lambda", lambda)?;
        let units = state.active.candidates().unit_shape();
        expect_shape("bi-mask", "score", state.score, &units)?;
        let importance = self.importance(state.score)?;
        let sparsity = self.sparsity(state, &importance)?;
        let (s, v) = (widened(&importance)?, widened(&sparsity)?);
        let mask = s.f_mul_scalar(lambda)?.f_add(&v.f_mul_scalar(1.0 - lambda)?)?;
        Ok(Mask { mask: mask.f_to_kind(importance.kind())?, importance, sparsity })
    }
}

/// The paper's bi-mask: S = σ(score), V the probability that a unit of this rank survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RankedBiMask;

impl BiMask for RankedBiMask {
    fn id(&self) -> ComponentId {
        ComponentId::new("ranked")
    }

    fn importance(&self, score: &Tensor) -> Result<Tensor> {
        Ok(score.f_sigmoid()?)
    }

    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor> {
        let active = state.active;
        let units = active.candidates().unit_shape();
        expect_shape("sparsity", "score", state.score, &units)?;
        expect_shape("sparsity", "importance", importance, &units)?;
        let tail = tail(state.alpha, active)?;
        let (score, importance) = (state.score.f_detach()?, importance.f_detach()?);
        let heads = head_ranks(&importance, state.pruned_importance)?;
        let rows = active.row_of_rank().f_index_select(0, &heads)?;
        let columns = active.column_of_rank().f_take(&ranks(&score)?)?;
        let place = rows.f_mul_scalar(tail.size()[1])?.f_unsqueeze(1)?.f_add(&columns)?;
        Ok(tail.f_take(&place)?.f_to_kind(state.alpha.kind())?)
    }
}

/// V̂ by rank: `V̂[ρ, r] = Σ_{h_a > ρ, c_b > r} p_ab` over the active candidates, `[heads, channels]`
/// (design 2.1 and 2.2).
///
/// # Errors
/// [`Error::Shape`] if α is not that of the candidates.
pub fn survival_by_rank(alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
    let rows = tail(alpha, active)?.f_index_select(0, active.row_of_rank())?;
    Ok(rows.f_index_select(1, active.column_of_rank())?.f_to_kind(alpha.kind())?)
}

/// Σ of p over the candidates at and beyond each candidate, with a row and a column of zeros after the
/// last: one reverse cumulative sum along each axis.
fn tail(alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
    expect_shape("sparsity", "alpha", alpha, &active.candidates().shape())?;
    let p = active.probabilities(&widened(alpha)?)?.f_flip([0, 1])?;
    // Sums of probabilities; the bound only takes away what rounding adds above 1.
    let sums = p.f_cumsum(0, None)?.f_cumsum(1, None)?.f_clamp_max(1.0)?;
    Ok(sums.f_flip([0, 1])?.f_constant_pad_nd([0, 1, 0, 1])?)
}

/// Refuses λ outside [0, 1].
///
/// # Errors
/// [`Error::Invalid`] naming `name`.
pub(crate) fn check_lambda(name: &str, lambda: f64) -> Result<()> {
    if (0.0..=1.0).contains(&lambda) {
        return Ok(());
    }
    Err(Error::invalid(name, "within [0, 1]", lambda))
}

/// Refuses scores or candidate logits that are not finite. Reads from the device.
///
/// # Errors
/// [`Error::NonFinite`] naming the dimension.
pub(crate) fn expect_finite(name: &str, dimension: &str, tensor: &Tensor) -> Result<()> {
    let finite = tensor.f_isfinite()?.f_all()?.f_to_kind(Kind::Int64)?.f_int64_value(&[])?;
    if finite == 1 {
        return Ok(());
    }
    Err(Error::NonFinite { name: name.into(), dimension: dimension.into() })
}
