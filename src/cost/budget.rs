//! Budgets: upper limits on what a subnet costs.

use super::{CostModel, Metric};
use crate::space::{SearchSpace, Size};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a [`Budget`] states its limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Share of the dense network's cost, in (0, 1].
    Share(f64),
    /// Amount in units of the metric: multiply-accumulates of one image, or parameters.
    Amount(f64),
}

/// An upper limit on one metric, relative or absolute.
///
/// ```
/// use once_for_both::cost::Budget;
///
/// let budgets = [Budget::macs_share(0.5), Budget::params(8e6)];
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Limited metric.
    pub metric: Metric,
    /// Limit, a share or an amount.
    pub limit: Limit,
}

impl Budget {
    /// At most this share of the dense network's cost.
    pub fn share(metric: Metric, share: f64) -> Self {
        Self { metric, limit: Limit::Share(share) }
    }

    /// At most this share of the dense network's multiply-accumulates.
    pub fn macs_share(share: f64) -> Self {
        Self::share(Metric::Macs, share)
    }

    /// At most this share of the dense network's parameters.
    pub fn params_share(share: f64) -> Self {
        Self::share(Metric::Params, share)
    }

    /// At most so many multiply-accumulates an image.
    pub fn macs(amount: f64) -> Self {
        CostLimit::macs(amount).into()
    }

    /// At most so many parameters.
    pub fn params(amount: f64) -> Self {
        CostLimit::params(amount).into()
    }

    /// Returns the limit in units of the metric, for this dense network; a share is rounded down.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless a share lies in (0, 1] and an amount is positive.
    pub fn resolve(&self, model: &CostModel) -> Result<CostLimit> {
        let limit = match self.limit {
            Limit::Share(share) if share > 0.0 && share <= 1.0 => {
                (share * model.dense_cost(self.metric)?).floor()
            }
            Limit::Share(share) => {
                return Err(Error::invalid("budget", "a share in (0, 1]", share));
            }
            Limit::Amount(amount) if amount > 0.0 && amount.is_finite() => amount,
            Limit::Amount(amount) => {
                let expected = format!("a positive number of {}", self.metric.name());
                return Err(Error::invalid("budget", expected, amount));
            }
        };
        Ok(CostLimit { metric: self.metric, limit })
    }
}

/// A [`Budget`] in units of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CostLimit {
    /// Limited metric.
    pub metric: Metric,
    /// Largest allowed cost, in units of the metric.
    pub limit: f64,
}

impl From<CostLimit> for Budget {
    fn from(CostLimit { metric, limit }: CostLimit) -> Self {
        Self { metric, limit: Limit::Amount(limit) }
    }
}

impl CostLimit {
    /// At most so many multiply-accumulates an image.
    pub fn macs(limit: f64) -> Self {
        Self { metric: Metric::Macs, limit }
    }

    /// At most so many parameters.
    pub fn params(limit: f64) -> Self {
        Self { metric: Metric::Params, limit }
    }

    /// Refuses a limit below the least cost of a space or above its greatest.
    ///
    /// # Errors
    /// [`Error::Infeasible`] with the range of the space; [`Error::Invalid`] where the dense
    /// network costs nothing.
    pub fn check(&self, model: &CostModel, space: &SearchSpace) -> Result<()> {
        let candidates: Vec<Vec<Size>> = space
            .dimensions
            .iter()
            .map(|dimension| dimension.candidates.sizes().collect())
            .collect();
        let (least, most) = model.range(self.metric, space, &candidates)?;
        let dense = model.dense_cost(self.metric)?;
        if !(dense.is_finite() && dense > 0.0) {
            let name = format!("{} of the dense network", self.metric.name());
            return Err(Error::invalid(name, "positive, to be limited", dense));
        }
        if least <= self.limit && self.limit <= most {
            return Ok(());
        }
        Err(Error::Infeasible { metric: self.metric.name(), budget: self.limit, least, most })
    }
}
