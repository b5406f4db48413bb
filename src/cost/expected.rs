//! Expected cost: the cost at the expected sizes of all dimensions, differentiable in α.

use super::{CompiledPolynomial, CostModel, Metric};
use crate::space::{ActiveSet, Candidates, SearchSpace};
use crate::Result;
use tch::{Device, Kind, Tensor};

/// F(α): costs at the expected sizes Σ_k p_k·size_k (paper eq. 9).
///
/// Laid out on a device for one space; a space that has been narrowed needs a new one.
#[derive(Debug)]
pub struct ExpectedCost {
    costs: Vec<CompiledPolynomial>,
    /// Units and heads of every candidate, by dimension: `[2, candidates]`.
    candidate_sizes: Vec<Tensor>,
    one: Tensor,
}

impl ExpectedCost {
    /// Lays the costs of `metrics` out over a space.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] if the cost model names a dimension without a size.
    pub fn new(
        model: &CostModel,
        space: &SearchSpace,
        metrics: &[Metric],
        device: Device,
    ) -> Result<Self> {
        let compile = |&metric| {
            CompiledPolynomial::new(model.polynomial(metric), space, &model.dense, device)
        };
        let sizes = space.dimensions.iter().map(|d| candidate_sizes(&d.candidates, device));
        Ok(Self {
            costs: metrics.iter().map(compile).collect::<Result<_>>()?,
            candidate_sizes: sizes.collect::<Result<_>>()?,
            one: Tensor::f_ones([1], (Kind::Float, device))?,
        })
    }

    /// Returns the expected units and heads of every dimension in turn, then 1.
    ///
    /// # Shapes
    /// `alphas`, `active`: one a dimension. Result: `[2 · dimensions + 1]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an α has another shape than its candidates.
    pub fn sizes(&self, alphas: &[Tensor], active: &[&ActiveSet]) -> Result<Tensor> {
        let mut sizes = Vec::with_capacity(alphas.len() + 1);
        let dimensions = alphas.iter().zip(active).zip(&self.candidate_sizes);
        for ((alpha, active), candidates) in dimensions {
            let p = active.probabilities(alpha)?.f_flatten(0, -1)?.f_to_kind(Kind::Float)?;
            sizes.push(candidates.f_mv(&p)?);
        }
        sizes.push(self.one.shallow_clone());
        Ok(Tensor::f_cat(&sizes, 0)?)
    }

    /// Returns the expected cost under each metric, a scalar with gradients to α.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an α has another shape than its candidates.
    pub fn costs(&self, alphas: &[Tensor], active: &[&ActiveSet]) -> Result<Vec<Tensor>> {
        let sizes = self.sizes(alphas, active)?;
        self.costs.iter().map(|cost| cost.evaluate(&sizes)).collect()
    }
}

fn candidate_sizes(candidates: &Candidates, device: Device) -> Result<Tensor> {
    let units = candidates.sizes().map(|size| size.units() as f32);
    let heads = candidates.sizes().map(|size| size.heads as f32);
    let rows: Vec<f32> = units.chain(heads).collect();
    Ok(Tensor::f_from_slice(&rows)?.f_view([2, -1])?.f_to_device(device)?)
}
