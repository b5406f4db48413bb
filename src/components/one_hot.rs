//! Adaptive one-hot loss, which drives candidate probabilities to one-hot (paper section 3.3).

use super::ComponentId;
use crate::range::{check_all, Range};
use crate::space::{ActiveSet, ActiveSets, DimensionKind};
use crate::tensors::{joined, widened};
use crate::Result;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::f64::consts::PI;
use std::fmt::Debug;
use tch::{Device, Kind, Tensor};

/// Loss that drives the candidate probabilities p of one dimension to one-hot (paper section 3.3).
///
/// It has two parts, because their gradients reach different parameters: [`alpha_loss`] depends on
/// α alone, [`importance_loss`] on the scores alone.
///
/// [`alpha_loss`]: Self::alpha_loss
/// [`importance_loss`]: Self::importance_loss
pub trait AdaptiveOneHotLoss: Any + Debug + Send + Sync {
    /// Name and parameters; a checkpoint stores them, and a resume with another id is refused. The names of
    /// this crate's own are refused when the search is built.
    fn id(&self) -> ComponentId;

    /// Checks the parameters; called when the search is built.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming the parameter.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Returns the loss on the candidate logits α; zero if a single candidate is active.
    ///
    /// # Shapes
    /// `alpha`: shaped like the candidates. Result: scalar, finite for every finite α.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if α does not have the shape of the candidates.
    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor>;

    /// Returns the loss on the importance S of the units of a dimension of this kind. Without it,
    /// the task loss could raise all scores together.
    ///
    /// # Shapes
    /// `importance`: any. Result: scalar.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::Error::Torch) if libtorch fails.
    fn importance_loss(&self, kind: DimensionKind, importance: &Tensor) -> Result<Tensor>;

    /// Returns the sum of [`alpha_loss`](Self::alpha_loss) over the undecided of several dimensions. A search calls this
    /// method; implement it where all dimensions can be computed with fewer operators than one by one.
    ///
    /// # Shapes
    /// `sets`: the active candidates of these dimensions, in their order. Result: scalar.
    ///
    /// # Errors
    /// Those of [`alpha_loss`](Self::alpha_loss).
    fn alpha_losses(&self, alphas: &[&Tensor], sets: &ActiveSets) -> Result<Tensor> {
        let own = alphas.iter().zip(sets.iter()).filter(|(_, active)| active.decided().is_none());
        let losses = own.map(|(alpha, active)| self.alpha_loss(alpha, active));
        sum_of(&losses.collect::<Result<Vec<_>>>()?, alphas.first().copied())
    }

    /// Returns the sum of [`importance_loss`](Self::importance_loss) over several dimensions, as kind and
    /// importance. A search calls this method.
    ///
    /// # Errors
    /// Those of [`importance_loss`](Self::importance_loss).
    fn importance_losses(&self, importance: &[(DimensionKind, &Tensor)]) -> Result<Tensor> {
        let own = importance.iter().map(|(kind, own)| self.importance_loss(*kind, own));
        sum_of(&own.collect::<Result<Vec<_>>>()?, importance.first().map(|(_, own)| *own))
    }

    /// Returns the sum of both parts (paper eq. 8); zero if a single candidate is active. A search
    /// calls the sums over all dimensions instead.
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
        let loss = self.alpha_loss(alpha, active)?;
        if active.decided().is_some() {
            return Ok(loss);
        }
        Ok(loss.f_add(&self.importance_loss(kind, importance)?)?)
    }
}

/// The paper's loss L = H(p) + tan(π/2 − π·x)/n + c·Σ S (eq. 8), with the entropy
/// H(p) = −Σ p·ln p and the normalised variance x = σ²/(1 − 1/n), σ² = Σ (p − 1/n)², over the n
/// active candidates. Each of the three terms can be switched off.
///
/// The tangent term goes to +∞ at uniform p (x = 0) and to −∞ at one-hot p (x = 1). Where x is
/// outside `[delta, 1 − delta]`, the term is replaced by its first-order expansion at the nearer
/// end, so value and gradient are finite for every finite α.
///
/// For f16 and bf16 α the loss is computed and returned in f32.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EntropyVarianceLoss {
    /// Whether the loss contains H(p).
    pub entropy: bool,
    /// Whether the loss contains tan(π/2 − π·x)/n.
    pub tangent: bool,
    /// Whether the loss contains c·Σ S.
    pub importance: bool,
    /// c of attention dimensions.
    pub attention_weight: f64,
    /// c of embedding and hidden dimensions.
    pub other_weight: f64,
    /// Distance of x from 0 and 1 below which the tangent term is linear, in [1e-6, 0.5). f32 does
    /// not resolve smaller distances from 1.
    pub delta: f64,
}

/// Lower bound of ln p in the entropy: exp(−1000) is 0 in f64, and p·ln p is then 0, not NaN.
const LEAST_LOG: f64 = -1e3;
/// Weights of the terms.
const WEIGHT: Range<f64> = Range::closed(-1e6, 1e6);

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

    /// Returns c of a kind of dimension; 0 if the term is switched off.
    pub fn importance_weight(&self, kind: DimensionKind) -> f64 {
        match (self.importance, kind) {
            (false, _) => 0.0,
            (true, DimensionKind::Attention) => self.attention_weight,
            (true, _) => self.other_weight,
        }
    }

    /// Returns tan(π/2 − π·x) = cot(π·x) for x in `[delta, 1 − delta]`, and beyond it the tangent
    /// line cot(π·x₀) − π/sin²(π·x₀)·(x − x₀) with x₀ = clamp(x, delta, 1 − delta).
    ///
    /// The slope is detached; within the bounds x − x₀ is zero in value and gradient.
    fn bounded_tangent(&self, x: &Tensor) -> Result<Tensor> {
        let inside = x.f_clamp(self.delta, 1.0 - self.delta)?;
        let angle = inside.f_mul_scalar(PI)?;
        let value = angle.f_tan()?.f_reciprocal()?;
        // −π/sin² = −π·(1 + cot²).
        let slope = value.f_detach()?.f_square()?.f_mul_scalar(-PI)?.f_sub_scalar(PI)?;
        Ok(value.f_add(&x.f_sub(&inside)?.f_mul(&slope)?)?)
    }
}

/// Returns the sum of scalars; for none 0, on the device of `like`.
fn sum_of(losses: &[Tensor], like: Option<&Tensor>) -> Result<Tensor> {
    match losses {
        [only] => Ok(only.shallow_clone()),
        [] => {
            let device = like.map_or(Device::Cpu, Tensor::device);
            Ok(Tensor::f_zeros([0i64; 0], (Kind::Float, device))?)
        }
        losses => Ok(Tensor::f_stack(losses, 0)?.f_sum(None)?),
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
        check_all([
            ("one_hot.delta", self.delta, Range::below(1e-6, 0.5)),
            ("one_hot.attention_weight", self.attention_weight, WEIGHT),
            ("one_hot.other_weight", self.other_weight, WEIGHT),
        ])
    }

    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        self.alpha_losses(&[alpha], active.alone()?)
    }

    fn alpha_losses(&self, alphas: &[&Tensor], sets: &ActiveSets) -> Result<Tensor> {
        let table = sets.table();
        let log_p = sets.logits(alphas)?.f_log_softmax(-1, None)?;
        let p = log_p.f_exp()?;
        let sum = |own: Tensor| own.f_sum_dim_intlist([1i64].as_slice(), false, None);
        let mut losses = table.means.f_zeros_like()?;
        if self.entropy {
            // 0 · ln 0 = 0, for dropped candidates and where p underflows.
            let log_p = log_p.f_masked_fill(&table.inactive, 0.0)?.f_clamp_min(LEAST_LOG)?;
            losses = losses.f_sub(&sum(p.f_mul(&log_p)?)?)?;
        }
        if self.tangent {
            let deviation = p.f_sub(&table.means.f_unsqueeze(1)?)?;
            let deviation = deviation.f_masked_fill(&table.inactive, 0.0)?;
            // σ² is at most 1 − 1/n.
            let most = table.means.f_neg()?.f_add_scalar(1.0)?;
            let x = sum(deviation.f_square()?)?.f_div(&most)?;
            losses = losses.f_add(&self.bounded_tangent(&x)?.f_mul(&table.means)?)?;
        }
        Ok(losses.f_mul(&table.undecided)?.f_sum(None)?)
    }

    fn importance_loss(&self, kind: DimensionKind, importance: &Tensor) -> Result<Tensor> {
        let sum = widened(importance)?.f_sum(None)?;
        Ok(sum.f_mul_scalar(self.importance_weight(kind))?)
    }

    fn importance_losses(&self, importance: &[(DimensionKind, &Tensor)]) -> Result<Tensor> {
        // One operator for all units of one weight.
        let mut by_weight: Vec<(f64, Vec<&Tensor>)> = Vec::new();
        for (kind, own) in importance {
            let weight = self.importance_weight(*kind);
            match by_weight.iter_mut().find(|(known, _)| *known == weight) {
                Some((_, all)) => all.push(own),
                None => by_weight.push((weight, vec![own])),
            }
        }
        let own = by_weight
            .into_iter()
            .map(|(weight, own)| Ok(widened(&joined(own)?)?.f_sum(None)?.f_mul_scalar(weight)?));
        sum_of(&own.collect::<Result<Vec<_>>>()?, importance.first().map(|(_, own)| *own))
    }
}
