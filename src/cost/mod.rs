//! Cost models, budgets, expected cost and projection.
//!
//! A [`CostModel`] gives MACs and parameters of a network as a [`Polynomial`] in the sizes of its
//! dimensions, and its latency, where that was [measured](crate::latency), as a [`TableCost`]. A
//! [`Budget`] limits one of them. [`ExpectedCost`] is F(α), the differentiable cost at the expected
//! sizes (paper eq. 9). [`project`] chooses one candidate per dimension within all budgets.

mod budget;
mod compiled_table;
mod expected;
mod polynomial;
mod projection;
mod table;

pub use budget::{Budget, CostLimit, Limit};
pub use expected::ExpectedCost;
pub(crate) use polynomial::size_in;
pub use polynomial::{CompiledPolynomial, Counted, Polynomial, SizeOf, Term};
pub(crate) use projection::{expect_projectable, MOST_UNUSED};
pub use projection::{project, project_close, Choice, Projection};
pub use table::{Grid, Table, TableCost, TableTerm};

use crate::error::LatencyError;
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
    /// Milliseconds of a batch on one device, from a
    /// [`LatencyModel`](crate::latency::LatencyModel).
    Latency,
}

impl Metric {
    /// Returns the name in messages: "MACs", "parameters" or "milliseconds".
    pub fn name(self) -> &'static str {
        match self {
            Self::Macs => "MACs",
            Self::Params => "parameters",
            Self::Latency => "milliseconds",
        }
    }
}

/// One cost of a network as a function of the sizes of its dimensions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CostFunction<'a> {
    /// A polynomial.
    Polynomial(&'a Polynomial),
    /// A sum of tables.
    Tables(&'a TableCost),
}

impl<'a> CostFunction<'a> {
    /// Returns the names of the dimensions of every term.
    pub(crate) fn terms(&self) -> Vec<Vec<&'a str>> {
        match self {
            Self::Polynomial(polynomial) => {
                let names = |term: &'a Term| term.factors.iter().map(|f| f.dimension.as_str());
                polynomial.terms().iter().map(|term| names(term).collect()).collect()
            }
            Self::Tables(tables) => {
                let names = |term: &'a TableTerm| term.dimensions.iter().map(String::as_str);
                tables.terms().iter().map(|term| names(term).collect()).collect()
            }
        }
    }
}

/// MACs and parameters of a network as polynomials in the sizes of its dimensions, and its latency
/// where that was measured.
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
    /// Milliseconds of a batch. `None` in what an architecture declares;
    /// [`SearchBuilder::latency`](crate::search::SearchBuilder::latency) sets it.
    pub latency: Option<TableCost>,
}

impl CostModel {
    /// Returns the cost model of these MACs and parameters, without latency.
    pub fn new(macs: Polynomial, params: Polynomial, dense: Sizes) -> Self {
        Self { macs, params, dense, latency: None }
    }

    /// Returns the cost under a metric as a function of the sizes.
    ///
    /// # Errors
    /// [`LatencyError::NotMeasured`] for the latency of a network without a latency model.
    pub fn function(&self, metric: Metric) -> Result<CostFunction<'_>> {
        match metric {
            Metric::Macs => Ok(CostFunction::Polynomial(&self.macs)),
            Metric::Params => Ok(CostFunction::Polynomial(&self.params)),
            Metric::Latency => match &self.latency {
                Some(latency) => Ok(CostFunction::Tables(latency)),
                None => Err(LatencyError::NotMeasured.into()),
            },
        }
    }

    /// Returns the exact cost F at the given sizes; a dimension without one has its dense size.
    ///
    /// # Errors
    /// [`Unknown`](crate::Error::Unknown) if the cost names a dimension that has no dense size
    /// either; [`LatencyError::NotMeasured`] for a latency without a model.
    pub fn cost(&self, metric: Metric, sizes: &Sizes) -> Result<f64> {
        let size = |name: &str| {
            let size = sizes.get(name).copied();
            size.map_or_else(|| size_in(&self.dense, name), Ok)
        };
        match self.function(metric)? {
            CostFunction::Tables(tables) => tables.evaluate_with(size),
            CostFunction::Polynomial(polynomial) => {
                polynomial.evaluate_with(|variable| Ok(variable.at(size(&variable.dimension)?)))
            }
        }
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
