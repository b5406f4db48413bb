//! Cost models, budgets, expected cost and projection.
//!
//! A [`CostModel`] gives MACs and parameters of a network as a [`Polynomial`] in the sizes of its
//! dimensions. A [`Budget`] limits one of them. [`ExpectedCost`] is F(α), the differentiable cost at
//! the expected sizes (paper eq. 9). [`project`] chooses one candidate per dimension within all
//! budgets.

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

/// Kind of cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Multiply-accumulates of one image: of every linear layer, convolution and attention product.
    Macs,
    /// Trainable parameters.
    Params,
}

impl Metric {
    /// Returns the name in messages: "MACs" or "parameters".
    pub fn name(self) -> &'static str {
        match self {
            Self::Macs => "MACs",
            Self::Params => "parameters",
        }
    }
}

/// MACs and parameters of a network as polynomials in the sizes of its dimensions.
///
/// ```
/// use once_for_both::cost::Metric;
/// use once_for_both::models::{Architecture, VitConfig};
/// use once_for_both::space::Size;
///
/// # fn main() -> once_for_both::Result<()> {
/// let model = VitConfig::deit_small().cost_model();
/// let mut sizes = model.dense.clone();
/// sizes.insert("embed".into(), Size::flat(192));
/// assert!(model.cost(Metric::Macs, &sizes)? < model.dense_cost(Metric::Macs)?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CostModel {
    /// Multiply-accumulates of one image.
    pub macs: Polynomial,
    /// Trainable parameters.
    pub params: Polynomial,
    /// Sizes of the dense network. A dimension outside the search space keeps its size here.
    pub dense: Sizes,
}

impl CostModel {
    /// Returns the polynomial of a metric.
    pub fn polynomial(&self, metric: Metric) -> &Polynomial {
        match metric {
            Metric::Macs => &self.macs,
            Metric::Params => &self.params,
        }
    }

    /// Returns the exact cost F at the given sizes; a dimension without one has its dense size.
    ///
    /// # Errors
    /// [`Unknown`](crate::Error::Unknown) if the polynomial names a dimension that has no dense size
    /// either.
    pub fn cost(&self, metric: Metric, sizes: &Sizes) -> Result<f64> {
        self.polynomial(metric).evaluate_with(|variable| {
            let name = &variable.dimension;
            let size = sizes.get(name).copied();
            Ok(variable.at(size.map_or_else(|| size_in(&self.dense, name), Ok)?))
        })
    }

    /// Returns the cost F_0 of the dense network.
    ///
    /// # Errors
    /// [`Unknown`](crate::Error::Unknown) if the polynomial names a dimension without a dense size.
    pub fn dense_cost(&self, metric: Metric) -> Result<f64> {
        self.cost(metric, &self.dense)
    }

    /// Returns the lowest and the highest cost of all choices of one size per dimension.
    ///
    /// # Shapes
    /// `candidates`: the sizes to choose from, one list per dimension of `space`.
    ///
    /// # Errors
    /// [`Unknown`](crate::Error::Unknown) if the polynomial names a dimension without a dense size.
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

    /// Returns the choice of sizes with the lowest cost (`Less`) or the highest (`Greater`).
    ///
    /// The cost has to increase with units and with heads. Sizes are compared by units, then by heads.
    /// If another candidate has fewer heads than the smallest one (or more than the largest), their
    /// costs are compared, with all other dimensions at their own extremes; of equal costs the one
    /// with fewer units is the lower.
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
