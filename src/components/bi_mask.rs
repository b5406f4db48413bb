//! Bi-mask m = λ·S + (1−λ)·V of one dimension (paper eq. 5).

use super::ComponentId;
use crate::error::expect_shape;
use crate::space::{ActiveSet, ActiveSets};
use crate::tensors::widened;
use crate::{Error, Result};
use std::any::Any;
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// State of one dimension, from which its bi-mask is computed.
#[derive(Debug, Clone, Copy)]
pub struct UnitState<'a> {
    /// Importance scores s, `[heads, channels]` (`[1, units]` for embedding and hidden width).
    pub score: &'a Tensor,
    /// Candidate logits α, of the shape [`Candidates::shape`](crate::space::Candidates::shape); entry i is that of the
    /// i-th of `active.candidates().sizes()`.
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
pub trait BiMask: Any + Debug + Send + Sync {
    /// Name and parameters; a checkpoint stores them, and a resume with another id is refused. The names of
    /// this crate's own are refused when the search is built.
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
        Ok(Mask { mask: mixed(&importance, &sparsity, lambda)?, importance, sparsity })
    }

    /// Returns the bi-masks of several dimensions: [`mask`](Self::mask) of each. A search calls this
    /// method; implement it where all dimensions can be computed with fewer operators than one by one.
    ///
    /// # Shapes
    /// `sets`: the active candidates of these dimensions, in their order.
    ///
    /// # Errors
    /// Those of [`mask`](Self::mask).
    fn masks(&self, states: &[UnitState], _sets: &ActiveSets, lambda: f64) -> Result<Vec<Mask>> {
        states.iter().map(|state| self.mask(*state, lambda)).collect()
    }
}

/// Returns m = λ·S + (1−λ)·V (paper eq. 5), computed in f32 at least, in the kind of S.
pub(super) fn mixed(importance: &Tensor, sparsity: &Tensor, lambda: f64) -> Result<Tensor> {
    let (s, v) = (widened(importance)?, widened(sparsity)?);
    let mask = s.f_mul_scalar(lambda)?.f_add(&v.f_mul_scalar(1.0 - lambda)?)?;
    Ok(mask.f_to_kind(importance.kind())?)
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
