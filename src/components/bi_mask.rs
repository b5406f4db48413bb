//! Bi-mask m = λ·S + (1−λ)·V of one dimension (paper eq. 5).

use super::rank::{head_ranks, ranks};
use super::ComponentId;
use crate::error::expect_shape;
use crate::space::ActiveSet;
use crate::tensors::widened;
use crate::{Error, Result};
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// State of one dimension, from which its bi-mask is computed.
#[derive(Debug, Clone, Copy)]
pub struct UnitState<'a> {
    /// Importance scores s, `[heads, channels]` (`[1, units]` for embedding and hidden width).
    pub score: &'a Tensor,
    /// Candidate logits α, `[head counts, channel widths]`.
    pub alpha: &'a Tensor,
    /// Candidates of the dimension, each active or dropped.
    pub active: &'a ActiveSet,
    /// Sum of the importance of the channels pruned so far, by head, `[heads]`.
    pub pruned_importance: Option<&'a Tensor>,
}

/// A bi-mask m and its two terms, each shaped like the scores.
#[derive(Debug)]
pub struct Mask {
    /// Importance S, in [0, 1].
    pub importance: Tensor,
    /// Sparsity V, in [0, 1].
    pub sparsity: Tensor,
    /// Bi-mask m = λ·S + (1−λ)·V.
    pub mask: Tensor,
}

/// Bi-mask of a dimension: one gate per unit, from importance scores and candidate logits α (paper
/// section 3.2).
///
/// Gradients reach scores only through [`importance`](Self::importance), and α only through
/// [`sparsity`](Self::sparsity). The ranks of units are constants to autograd.
///
/// # Kinds
/// Scores and α may be f64, f32, f16 or bf16. For f16 and bf16 the terms are computed in f32 and
/// rounded once: with the unit roundoff u (2⁻¹¹ for f16, 2⁻⁸ for bf16), the relative error is at
/// most u for S and V and 2u for m, plus the smallest subnormal. In f32 the error of all three is
/// at most 1e-6.
pub trait BiMask: Debug + Send + Sync {
    /// Name and parameters; a checkpoint stores them, and a resume with another id is refused.
    fn id(&self) -> ComponentId;

    /// Returns S of every unit, shaped like the score and differentiable in it.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch fails.
    fn importance(&self, score: &Tensor) -> Result<Tensor>;

    /// Returns V of every unit, `[heads, channels]`, differentiable in α.
    ///
    /// # Errors
    /// [`Error::Shape`] if scores or α do not have the shape of the candidates.
    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor>;

    /// Returns the bi-mask m = λ·S + (1−λ)·V (paper eq. 5) with both terms.
    ///
    /// # Errors
    /// [`Error::Invalid`] if λ is outside [0, 1], [`Error::Shape`] if the scores do not have the
    /// shape of the candidates; those of the two terms.
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

/// The paper's bi-mask: S = σ(s), and V = Σ p over the active candidates that keep a unit of this
/// rank (paper section 3.2).
///
/// In a flat dimension with widths w_k, a unit of rank r has V = Σ_{k: w_k > r} p_k. In attention
/// with candidates (h_a, c_b), channel j of head i has V = Σ_{h_a > ρ, c_b > r} p_ab: ρ is the
/// rank of the head by the sum of its channels' S ([`head_ranks`]), r the rank of the channel by
/// score within its head ([`ranks`]). q, k and v of a head share the bi-mask.
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

/// Returns V for every rank of head and channel, `[heads, channels]`:
/// `V[ρ, r] = Σ_{h_a > ρ, c_b > r} p_ab` over the active candidates (paper section 3.2).
///
/// # Errors
/// [`Error::Shape`] if α does not have the shape of the candidates.
pub fn survival_by_rank(alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
    let rows = tail(alpha, active)?.f_index_select(0, active.row_of_rank())?;
    Ok(rows.f_index_select(1, active.column_of_rank())?.f_to_kind(alpha.kind())?)
}

/// Returns Σ p over the candidates at least as large as each candidate, in both axes, padded with
/// one row and one column of zeros: a reverse cumulative sum along each axis.
fn tail(alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
    expect_shape("sparsity", "alpha", alpha, &active.candidates().shape())?;
    let p = active.probabilities(&widened(alpha)?)?.f_flip([0, 1])?;
    // A sum of probabilities can exceed 1 by rounding only.
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
