//! How the decision is forced: the adaptive one-hot loss.

use super::ComponentId;
use crate::error::expect_shape;
use crate::space::{ActiveSet, DimensionKind};
use crate::tensors::widened;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::fmt::Debug;
use tch::Tensor;

/// A loss that drives the candidate probabilities of one dimension to a decision.
pub trait AdaptiveOneHotLoss: Debug + Send + Sync {
    /// Name and parameters, by which a checkpoint recognises the component.
    fn id(&self) -> ComponentId;

    /// Refuses parameters out of range; called before the first step.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the parameter.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Loss on the candidate logits. Zero once a single candidate is left.
    ///
    /// # Shapes
    /// `alpha`: shaped like the candidates. Result: scalar, finite for every finite α.
    ///
    /// # Errors
    /// [`Error::Shape`] if α is not that of the candidates.
    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor>;

    /// Loss on the importance of the units of a dimension of this kind, which keeps scores from
    /// all rising.
    ///
    /// # Shapes
    /// `importance`: any. Result: scalar.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch refuses.
    fn importance_loss(&self, kind: DimensionKind, importance: &Tensor) -> Result<Tensor>;

    /// Both together (paper eq. 8). Zero once a single candidate is left. For use on plain tensors: a
    /// search asks for the two parts.
    ///
    /// # Errors
    /// Those of the two parts.
    fn loss(
        &self,
        kind: DimensionKind,
        alpha: &Tensor,
        active: &ActiveSet,
        importance: &Tensor,
    ) -> Result<Tensor> {
        let sharpen = self.alpha_loss(alpha, active)?;
        if active.decided().is_some() {
            return Ok(sharpen);
        }
        Ok(sharpen.f_add(&self.importance_loss(kind, importance)?)?)
    }
}

/// The paper's loss: L = H(p) + tan(π/2 − π x)/n + c·Σ S, with x = σ²/(1 − 1/n) and
/// σ² = Σ (p − 1/n)² over the n active candidates (design 2.5). Each of the three terms has its switch.
///
/// The tangent runs to ±∞ at uniform and one-hot p. Outside `[delta, 1 − delta]` it goes on along
/// its tangent line, so that value and gradient are finite for every finite α.
///
/// Where α is f16 or bf16 the loss is computed in f32, and stays f32.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EntropyVarianceLoss {
    /// Whether H(p) counts.
    pub entropy: bool,
    /// Whether the tangent of the variance counts.
    pub tangent: bool,
    /// Whether c·Σ S counts.
    pub importance: bool,
    /// c in attention.
    pub attention_weight: f64,
    /// c in every other kind of dimension.
    pub other_weight: f64,
    /// Distance from 0 and 1 beyond which the tangent is continued linearly; in [1e-6, 0.5): nearer
    /// to 1, f32 no longer tells x from it.
    pub delta: f64,
}

/// Below this a probability is 0 in every kind of number, and so is its share of the entropy.
const LEAST_LOG: f64 = -1e3;

impl EntropyVarianceLoss {
    pub(super) const NAME: &'static str = "entropy_variance";

    /// The paper's terms and weights: c = 4e-4 for attention, else 1e-4.
    pub fn paper() -> Self {
        Self {
            entropy: true,
            tangent: true,
            importance: true,
            attention_weight: 4e-4,
            other_weight: 1e-4,
            delta: 1e-4,
        }
    }

    /// c for a kind of dimension; 0 where the term is switched off.
    pub fn importance_weight(&self, kind: DimensionKind) -> f64 {
        match (self.importance, kind) {
            (false, _) => 0.0,
            (true, DimensionKind::Attention) => self.attention_weight,
            (true, _) => self.other_weight,
        }
    }

    /// tan(π/2 − π x) = cot(π x) inside `[delta, 1 − delta]`, its tangent line outside.
    ///
    /// The line hangs on the bounded x: its slope is a constant, and inside the bounds the
    /// distance to them is zero in value and gradient.
    fn bounded_tangent(&self, x: &Tensor) -> Result<Tensor> {
        let inside = x.f_clamp(self.delta, 1.0 - self.delta)?;
        let angle = inside.f_mul_scalar(PI)?;
        let value = angle.f_tan()?.f_reciprocal()?;
        let slope = angle.f_detach()?.f_sin()?.f_square()?.f_reciprocal()?.f_mul_scalar(-PI)?;
        Ok(value.f_add(&x.f_sub(&inside)?.f_mul(&slope)?)?)
    }
}

impl AdaptiveOneHotLoss for EntropyVarianceLoss {
    fn id(&self) -> ComponentId {
        ComponentId::new(Self::NAME)
            .with("entropy", self.entropy)
            .with("tangent", self.tangent)
            .with("importance", self.importance)
            .with("attention_weight", self.attention_weight)
            .with("other_weight", self.other_weight)
            .with("delta", self.delta)
    }

    fn check(&self) -> Result<()> {
        if !(1e-6..0.5).contains(&self.delta) {
            let (name, expected) = ("delta of the one-hot loss", "within [1e-6, 0.5)");
            return Err(Error::invalid(name, expected, self.delta));
        }
        for (name, weight) in [
            ("attention weight of the one-hot loss", self.attention_weight),
            ("other weight of the one-hot loss", self.other_weight),
        ] {
            if !weight.is_finite() {
                return Err(Error::invalid(name, "finite", weight));
            }
        }
        Ok(())
    }

    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        expect_shape("one-hot loss", "alpha", alpha, &active.candidates().shape())?;
        let alpha = widened(alpha)?;
        let n = active.count() as f64;
        let mut loss = Tensor::f_zeros([0i64; 0], (alpha.kind(), alpha.device()))?;
        if active.decided().is_some() {
            return Ok(loss);
        }
        let log_p = active.log_probabilities(&alpha)?;
        let p = log_p.f_exp()?;
        if self.entropy {
            // 0 · ln 0 is 0, in an inactive candidate and in one that α has put out of reach.
            let log_p = log_p.f_masked_fill(active.inactive(), 0.0)?.f_clamp_min(LEAST_LOG)?;
            loss = loss.f_sub(&p.f_mul(&log_p)?.f_sum(None)?)?;
        }
        if self.tangent {
            let deviation = p.f_sub_scalar(1.0 / n)?.f_masked_fill(active.inactive(), 0.0)?;
            let x = deviation.f_square()?.f_sum(None)?.f_div_scalar(1.0 - 1.0 / n)?;
            loss = loss.f_add(&self.bounded_tangent(&x)?.f_div_scalar(n)?)?;
        }
        Ok(loss)
    }

    fn importance_loss(&self, kind: DimensionKind, importance: &Tensor) -> Result<Tensor> {
        let sum = widened(importance)?.f_sum(None)?;
        Ok(sum.f_mul_scalar(self.importance_weight(kind))?)
    }
}
