//! What a network costs: MACs and parameters, written once, and the budgets set on them.

mod budget;
mod expected;
mod polynomial;
mod projection;

pub use budget::{Budget, CostLimit, Limit};
pub use expected::ExpectedCost;
pub(crate) use polynomial::size_in;
pub use polynomial::{CompiledPolynomial, Polynomial, SizeOf, Term};
pub(crate) use projection::expect_projectable;
pub use projection::{project, Choice, Projection};

use crate::space::{SearchSpace, Size, Sizes};
use crate::Result;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

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
    /// [`Unknown`](crate::Error::Unknown) if the model has no size for one of its own dimensions.
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
    /// [`Unknown`](crate::Error::Unknown) if the model has no size for one of its own dimensions.
    pub fn dense_cost(&self, metric: Metric) -> Result<f64> {
        self.cost(metric, &self.dense)
    }

    /// Cost of the cheapest and of the dearest choice of candidate sizes, one list a dimension.
    ///
    /// # Errors
    /// [`Unknown`](crate::Error::Unknown) if the model has no size for one of its own dimensions.
    pub fn range(
        &self,
        metric: Metric,
        space: &SearchSpace,
        candidates: &[Vec<Size>],
    ) -> Result<(f64, f64)> {
        let least = self.extreme(metric, space, candidates, Ordering::Less)?;
        let most = self.extreme(metric, space, candidates, Ordering::Greater)?;
        Ok((self.cost(metric, &least)?, self.cost(metric, &most)?))
    }

    /// The cheapest choice of candidate sizes (`Less`), or the dearest (`Greater`).
    ///
    /// Costs are taken to grow with units and with heads, so mostly the smallest size is the
    /// cheapest. Of a few large heads and many small ones neither is smaller: their costs are
    /// compared, with every other dimension at its own extreme. Of equal costs the smaller size
    /// counts as cheaper.
    pub(crate) fn extreme(
        &self,
        metric: Metric,
        space: &SearchSpace,
        candidates: &[Vec<Size>],
        wanted: Ordering,
    ) -> Result<Sizes> {
        let extent = |size: Size| (size.units(), size.heads);
        let mut chosen = Sizes::new();
        for (dimension, sizes) in space.dimensions.iter().zip(candidates) {
            let first = sizes.iter().copied().reduce(|best, size| {
                if extent(size).cmp(&extent(best)) == wanted {
                    size
                } else {
                    best
                }
            });
            chosen.extend(first.map(|size| (dimension.name.clone(), size)));
        }
        for (dimension, sizes) in space.dimensions.iter().zip(candidates) {
            let Some(mut best) = chosen.get(&dimension.name).copied() else { continue };
            if sizes.iter().all(|size| size.heads.cmp(&best.heads) != wanted) {
                continue;
            }
            let mut best_cost = self.cost(metric, &chosen)?;
            for &size in sizes {
                chosen.insert(dimension.name.clone(), size);
                let cost = self.cost(metric, &chosen)?;
                let order = cost.total_cmp(&best_cost).then(extent(size).cmp(&extent(best)));
                if order == wanted {
                    (best, best_cost) = (size, cost);
                }
            }
            chosen.insert(dimension.name.clone(), best);
        }
        Ok(chosen)
    }
}
