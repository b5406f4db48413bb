//! Expected cost F(α): the cost at the expected sizes of all dimensions, differentiable in α.

use super::compiled_table::CompiledTables;
use super::polynomial::COUNTS;
use super::{CompiledPolynomial, CostFunction, CostModel, Metric};
use crate::space::{ActiveSets, SearchSpace};
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Expected cost F(α) under one or more metrics: the cost at the expected sizes Σ_k p_k·size_k,
/// p = softmax(α) over the active candidates (paper eq. 9).
///
/// It is of one space on one device.
#[derive(Debug)]
pub struct ExpectedCost {
    costs: Vec<Compiled>,
    one: Tensor,
}

/// One cost as tensors.
#[derive(Debug)]
enum Compiled {
    Polynomial(CompiledPolynomial),
    Tables(CompiledTables),
}

impl Compiled {
    fn new(model: &CostModel, space: &SearchSpace, metric: Metric, device: Device) -> Result<Self> {
        let dense = &model.dense;
        Ok(match model.function(metric)? {
            CostFunction::Polynomial(polynomial) => {
                Self::Polynomial(CompiledPolynomial::new(polynomial, space, dense, device)?)
            }
            CostFunction::Tables(tables) => {
                Self::Tables(CompiledTables::new(tables, space, dense, device)?)
            }
        })
    }

    fn evaluate(&self, sizes: &Tensor) -> Result<Tensor> {
        match self {
            Self::Polynomial(polynomial) => polynomial.evaluate(sizes),
            Self::Tables(tables) => tables.evaluate(sizes),
        }
    }
}

impl ExpectedCost {
    /// Numbers of every dimension in [`sizes`](Self::sizes): units, heads, branch.
    pub const COUNTS: usize = COUNTS as usize;

    /// Returns the expected cost of `space` under `metrics`.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] if the cost model names a dimension that is not in the space and has
    /// no dense size; [`LatencyError::NotMeasured`](crate::error::LatencyError::NotMeasured) for a latency
    /// without a model.
    pub fn new(
        model: &CostModel,
        space: &SearchSpace,
        metrics: &[Metric],
        device: Device,
    ) -> Result<Self> {
        let compile = |&metric| Compiled::new(model, space, metric, device);
        Ok(Self {
            costs: metrics.iter().map(compile).collect::<Result<_>>()?,
            one: Tensor::f_ones([1], (Kind::Float, device))?,
        })
    }

    /// Returns `[units_0, heads_0, branch_0, units_1, …, 1]`: of every dimension the expected units and heads, and the
    /// probability that it is not removed; then 1.
    ///
    /// # Shapes
    /// `alphas`: one per dimension; `sets`: their active candidates. Result: `[3 · dimensions + 1]`, f32.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an α has another shape than its candidates.
    pub fn sizes(&self, alphas: &[&Tensor], sets: &ActiveSets) -> Result<Tensor> {
        let p = sets.logits(alphas)?.f_softmax(-1, None)?.f_to_kind(Kind::Float)?;
        let sizes = p.f_unsqueeze(1)?.f_bmm(&sets.table().sizes)?.f_view([-1, COUNTS])?;
        let sizes = sets.in_order(&sizes)?;
        Ok(Tensor::f_cat(&[sizes.f_reshape([-1])?, self.one.shallow_clone()], 0)?)
    }

    /// Returns F(α) under each metric, in the order given to [`new`](Self::new), differentiable in α.
    ///
    /// # Shapes
    /// `alphas`: one per dimension; `sets`: their active candidates. Result: scalars.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an α has another shape than its candidates.
    pub fn costs(&self, alphas: &[&Tensor], sets: &ActiveSets) -> Result<Vec<Tensor>> {
        let sizes = self.sizes(alphas, sets)?;
        self.costs.iter().map(|cost| cost.evaluate(&sizes)).collect()
    }
}
