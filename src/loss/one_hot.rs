//! How the decision is forced: the adaptive one-hot loss.

use crate::space::{ActiveSet, DimensionKind};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use tch::Tensor;

/// A loss that drives the cell probabilities of one dimension to a decision.
pub trait AdaptiveOneHotLoss {
    /// Loss on the cell logits. Zero once a single cell is left.
    ///
    /// # Shapes
    /// `alpha`: shaped like the cells. Result: scalar, finite for every finite α.
    ///
    /// # Errors
    /// [`Error::Torch`] if α has another shape than the active set.
    fn sharpen(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor>;

    /// Loss on the importance of the units, which keeps scores from all rising.
    ///
    /// # Shapes
    /// `importance`: any. Result: scalar.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch refuses.
    fn regularise(&self, importance: &Tensor) -> Result<Tensor>;

    /// Both together (paper eq. 8). Zero once a single cell is left.
    ///
    /// # Errors
    /// Those of the two parts.
    fn loss(&self, alpha: &Tensor, active: &ActiveSet, importance: &Tensor) -> Result<Tensor> {
        let sharpen = self.sharpen(alpha, active)?;
        if active.decided().is_some() {
            return Ok(sharpen);
        }
        Ok(sharpen.f_add(&self.regularise(importance)?)?)
    }
}

/// The paper's loss: L = H(p) + tan(π/2 − π x)/n + c·Σ S, with x = σ²/(1 − 1/n) and
/// σ² = Σ (p − 1/n)² over the n active cells (design 2.5).
///
/// The tangent runs to ±∞ at uniform and one-hot p. Outside `[delta, 1 − delta]` it goes on along
/// its tangent line, so that value and gradient are finite for every finite α.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EntropyVarianceLoss {
    /// Whether H(p) counts.
    pub entropy: bool,
    /// Whether the tangent of the variance counts.
    pub tangent: bool,
    /// c, the weight of Σ S.
    pub importance_weight: f64,
    /// Distance from 0 and 1 beyond which the tangent is continued linearly; in (0, 0.5).
    pub delta: f64,
}

impl EntropyVarianceLoss {
    /// The paper's terms and weights for a kind of dimension: c = 4e-4 for attention, else 1e-4.
    pub fn paper(kind: DimensionKind) -> Self {
        let importance_weight = if kind == DimensionKind::Attention { 4e-4 } else { 1e-4 };
        Self { entropy: true, tangent: true, importance_weight, delta: 1e-4 }
    }

    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `0 < delta < 0.5` and the weight is finite.
    pub fn check(&self) -> Result<()> {
        if !(self.delta > 0.0 && self.delta < 0.5) {
            return Err(Error::invalid("delta of the one-hot loss", "within (0, 0.5)", self.delta));
        }
        if !self.importance_weight.is_finite() {
            let weight = self.importance_weight;
            return Err(Error::invalid("importance weight of the one-hot loss", "finite", weight));
        }
        Ok(())
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
    fn sharpen(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        let n = active.count() as f64;
        let mut loss = Tensor::f_zeros([0i64; 0], (alpha.kind(), alpha.device()))?;
        if active.decided().is_some() {
            return Ok(loss);
        }
        let log_p = active.log_probabilities(alpha)?;
        let p = log_p.f_exp()?;
        if self.entropy {
            // An inactive cell has p = 0 and ln p = −∞; its share of the entropy is 0.
            let entropy = p.f_mul(&log_p.f_masked_fill(active.inactive(), 0.0)?)?.f_sum(None)?;
            loss = loss.f_sub(&entropy)?;
        }
        if self.tangent {
            let deviation = p.f_sub_scalar(1.0 / n)?.f_masked_fill(active.inactive(), 0.0)?;
            let x = deviation.f_square()?.f_sum(None)?.f_div_scalar(1.0 - 1.0 / n)?;
            loss = loss.f_add(&self.bounded_tangent(&x)?.f_div_scalar(n)?)?;
        }
        Ok(loss)
    }

    fn regularise(&self, importance: &Tensor) -> Result<Tensor> {
        Ok(importance.f_sum(None)?.f_mul_scalar(self.importance_weight)?)
    }
}
