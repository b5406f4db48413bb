//! Expected cost F(α): the cost at the expected sizes of all dimensions, differentiable in α.

use super::{CompiledPolynomial, CostModel, Metric};
use crate::space::{ActiveSet, Candidates, SearchSpace};
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Expected cost F(α) under one or more metrics: the cost at the expected sizes Σ_k p_k·size_k,
/// p = softmax(α) over the active candidates (paper eq. 9).
///
/// It holds the candidate sizes of one space on one device. After units are pruned, make a new one.
#[derive(Debug)]
pub struct ExpectedCost {
    costs: Vec<CompiledPolynomial>,
    /// For every dimension, units and heads of its candidates: `[2, candidates]`.
    candidate_sizes: Vec<Tensor>,
    one: Tensor,
}

impl ExpectedCost {
    /// Returns the expected cost of `space` under `metrics`.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] if the cost model names a dimension that is not in the space and has
    /// no dense size.
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

    /// Returns `[units_0, heads_0, units_1, heads_1, …, 1]`: the expected units and heads of every
    /// dimension, then 1.
    ///
    /// # Shapes
    /// `alphas`, `active`: one per dimension. Result: `[2 · dimensions + 1]`, f32.
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

    /// Returns F(α) under each metric, in the order given to [`new`](Self::new), differentiable in α.
    ///
    /// # Shapes
    /// `alphas`, `active`: one per dimension. Result: scalars.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an α has another shape than its candidates.
    pub fn costs(&self, alphas: &[Tensor], active: &[&ActiveSet]) -> Result<Vec<Tensor>> {
        let sizes = self.sizes(alphas, active)?;
        self.costs.iter().map(|cost| cost.evaluate(&sizes)).collect()
    }
}

/// Returns units and heads of every candidate, `[2, candidates]`, f32.
fn candidate_sizes(candidates: &Candidates, device: Device) -> Result<Tensor> {
    let units = candidates.sizes().map(|size| size.units() as f32);
    let heads = candidates.sizes().map(|size| size.heads as f32);
    let rows: Vec<f32> = units.chain(heads).collect();
    Ok(Tensor::f_from_slice(&rows)?.f_view([2, -1])?.f_to_device(device)?)
}
