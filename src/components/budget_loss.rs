//! Budget loss w·((F(α) − F*)/F_0)² (paper eq. 9).

use crate::cost::{CostLimit, CostModel, ExpectedCost, Metric};
use crate::space::{ActiveSets, SearchSpace};
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Budget loss w·e² with e = (F(α) − F*)/F_0 (paper eq. 9): F(α) is the expected cost, F* the
/// limit, F_0 the dense cost.
///
/// The paper has one limit. With several limits, e is the largest of their (F(α) − F*)/F_0.
#[derive(Debug)]
pub struct BudgetLoss {
    expected: ExpectedCost,
    /// F* and F_0 of every limit.
    limits: Vec<[f64; 2]>,
    weight: f64,
    device: Device,
}

impl BudgetLoss {
    /// Builds the loss for a search space at its present sizes. After pruning, a new one is needed.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] if the cost model names a dimension without a size.
    pub fn new(
        model: &CostModel,
        space: &SearchSpace,
        limits: &[CostLimit],
        weight: f64,
        device: Device,
    ) -> Result<Self> {
        let metrics: Vec<Metric> = limits.iter().map(|limit| limit.metric).collect();
        let pair = |limit: &CostLimit| Ok([limit.limit, model.dense_cost(limit.metric)?]);
        Ok(Self {
            expected: ExpectedCost::new(model, space, &metrics, device)?,
            limits: limits.iter().map(pair).collect::<Result<_>>()?,
            weight,
            device,
        })
    }

    /// Returns the loss, a scalar with gradients to α; 0 without a limit.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an α has another shape than its candidates.
    pub fn loss(&self, alphas: &[&Tensor], sets: &ActiveSets) -> Result<Tensor> {
        let mut excess: Option<Tensor> = None;
        let costs = self.expected.costs(alphas, sets)?;
        for (cost, [limit, dense]) in costs.iter().zip(&self.limits) {
            let own = cost.f_sub_scalar(*limit)?.f_div_scalar(*dense)?;
            excess = Some(excess.map_or(Ok(own.shallow_clone()), |most| most.f_maximum(&own))?);
        }
        let excess = match excess {
            Some(most) => most,
            None => Tensor::f_zeros([0i64; 0], (Kind::Float, self.device))?,
        };
        Ok(excess.f_square()?.f_mul_scalar(self.weight)?)
    }
}
