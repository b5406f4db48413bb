//! What a network costs: MACs and parameters, written once, and the budgets set on them.

mod polynomial;
mod projection;

pub(crate) use polynomial::size_in;
pub use polynomial::{CompiledPolynomial, Polynomial, SizeOf, Term};
pub use projection::{project, Choice, Projection};

use crate::space::{SearchSpace, Size, Sizes};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Multiply-accumulates of every matmul, convolution and attention product, one image.
    Macs,
    /// Trainable parameters.
    Params,
}

impl Metric {
    /// As in a sentence: "MACs", "parameters".
    pub fn name(self) -> &'static str {
        match self {
            Self::Macs => "MACs",
            Self::Params => "parameters",
        }
    }
}

/// MACs and parameters of a family of networks, as polynomials in its sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct CostModel {
    /// Multiply-accumulates of one image.
    pub macs: Polynomial,
    /// Trainable parameters.
    pub params: Polynomial,
    /// Sizes of the dense network; also of whatever a search leaves alone.
    pub dense: Sizes,
}

impl CostModel {
    /// The polynomial of a metric.
    pub fn polynomial(&self, metric: Metric) -> &Polynomial {
        match metric {
            Metric::Macs => &self.macs,
            Metric::Params => &self.params,
        }
    }

    /// Exact cost at the given sizes; dimensions that are not named there are dense.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the model has no size for one of its own dimensions.
    pub fn cost(&self, metric: Metric, sizes: &Sizes) -> Result<f64> {
        self.polynomial(metric).evaluate_with(|variable| {
            let name = &variable.dimension;
            let size = sizes.get(name).copied();
            Ok(variable.at(size.map_or_else(|| size_in(&self.dense, name), Ok)?))
        })
    }

    /// Cost of the dense network.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the model has no size for one of its own dimensions.
    pub fn dense_cost(&self, metric: Metric) -> Result<f64> {
        self.cost(metric, &self.dense)
    }

    /// Cost of the smallest and of the largest choice of candidate sizes, one list a dimension.
    ///
    /// Costs grow with every size, so the smallest sizes give the least cost.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the model has no size for one of its own dimensions.
    pub fn range(
        &self,
        metric: Metric,
        space: &SearchSpace,
        candidates: &[Vec<Size>],
    ) -> Result<(f64, f64)> {
        // With everything else dense: fewer heads or fewer units, whichever costs less.
        let (mut least, mut most) = (Sizes::new(), Sizes::new());
        for (dimension, sizes) in space.dimensions.iter().zip(candidates) {
            let mut costs = Vec::new();
            for &size in sizes {
                let alone = Sizes::from([(dimension.name.clone(), size)]);
                costs.push((self.cost(metric, &alone)?, size));
            }
            costs.sort_by(|left, right| left.0.total_cmp(&right.0));
            least.extend(costs.first().map(|(_, size)| (dimension.name.clone(), *size)));
            most.extend(costs.last().map(|(_, size)| (dimension.name.clone(), *size)));
        }
        Ok((self.cost(metric, &least)?, self.cost(metric, &most)?))
    }
}

/// An upper limit on one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// What is limited.
    pub metric: Metric,
    /// The limit, in units of the metric; never exceeded.
    pub limit: f64,
}

impl Budget {
    /// A limit in MACs of one image.
    pub fn macs(limit: f64) -> Self {
        Self { metric: Metric::Macs, limit }
    }

    /// A limit in parameters.
    pub fn params(limit: f64) -> Self {
        Self { metric: Metric::Params, limit }
    }

    /// A share of the dense network's cost.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `0 < share ≤ 1`.
    pub fn share(metric: Metric, share: f64, model: &CostModel) -> Result<Self> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::invalid("budget", "a share in (0, 1]", share));
        }
        Ok(Self { metric, limit: (share * model.dense_cost(metric)?).floor() })
    }

    /// Refuses a budget below the least cost of a space or above its greatest.
    ///
    /// # Errors
    /// [`Error::Infeasible`] with the range there is.
    pub fn check(&self, model: &CostModel, space: &SearchSpace) -> Result<()> {
        let candidates: Vec<Vec<Size>> =
            space.dimensions.iter().map(|dimension| dimension.cells.sizes().collect()).collect();
        let (least, most) = model.range(self.metric, space, &candidates)?;
        if least <= self.limit && self.limit <= most {
            return Ok(());
        }
        Err(Error::Infeasible { metric: self.metric.name(), budget: self.limit, least, most })
    }
}
