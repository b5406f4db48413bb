//! Budgets: upper limits on MACs, parameters or latency of the subnet.

use super::{CostModel, Metric};
use crate::range::{Range, POSITIVE_SHARE};
use crate::space::{SearchSpace, Size};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Amount of MACs, parameters or milliseconds.
const AMOUNT: Range<f64> = Range::above(0.0, 1e30);
/// Smallest amount that is read without a suffix.
const LEAST_PLAIN: f64 = 1e3;

/// Limit of a [`Budget`]: a share or an amount.
///
/// Parsed from text, a number up to 1 without a suffix is a share; numbers with a suffix k, M or G,
/// and numbers of at least 1,000, are amounts.
///
/// ```
/// use once_for_both::cost::Limit;
///
/// assert_eq!("0.5".parse::<Limit>()?, Limit::Share(0.5));
/// assert_eq!("1.3G".parse::<Limit>()?, Limit::Amount(1.3e9));
/// assert_eq!("4600000".parse::<Limit>()?, Limit::Amount(4.6e6));
/// # Ok::<(), once_for_both::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Share of the dense network's cost F_0, in (0, 1].
    Share(f64),
    /// Amount in units of the metric: multiply-accumulates of one image, parameters, or milliseconds
    /// of a batch.
    Amount(f64),
}

impl FromStr for Limit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse_as("budget", Metric::Macs, text)
    }
}

impl Limit {
    /// Parses the text of the option `name`, a limit of `metric`. That of a latency is a share up to 1
    /// or an amount with the suffix ms.
    pub(crate) fn parse_as(name: &str, metric: Metric, text: &str) -> Result<Self> {
        let limit = match metric {
            Metric::Macs | Metric::Params => Self::parse_amount(name, text)?,
            Metric::Latency => Self::parse_milliseconds(name, text)?,
        };
        limit.check(name)?;
        Ok(limit)
    }

    fn parse_milliseconds(name: &str, text: &str) -> Result<Self> {
        let text = text.trim();
        let (digits, limit): (_, fn(f64) -> Self) = match text.strip_suffix("ms") {
            Some(digits) => (digits.trim_end(), Self::Amount),
            None => (text, Self::Share),
        };
        let number: f64 = digits.parse().map_err(|_| {
            let expected = "a share such as 0.6, or milliseconds such as 12ms";
            Error::invalid(name, expected, format!("{text:?}"))
        })?;
        match limit(number) {
            Self::Share(share) if share > 1.0 => {
                let expected = format!(
                    "a share within (0, 1], or milliseconds; for milliseconds write {share}ms"
                );
                Err(Error::invalid(name, expected, text))
            }
            limit => Ok(limit),
        }
    }

    fn parse_amount(name: &str, text: &str) -> Result<Self> {
        let (digits, factor) = match text.trim().char_indices().last() {
            Some((at, 'k' | 'K')) => (&text.trim()[..at], 1e3),
            Some((at, 'M')) => (&text.trim()[..at], 1e6),
            Some((at, 'G')) => (&text.trim()[..at], 1e9),
            _ => (text.trim(), 1.0),
        };
        let suffixed = factor != 1.0;
        match digits.parse::<f64>() {
            Ok(share) if !suffixed && share <= 1.0 => Ok(Self::Share(share)),
            Ok(amount) if suffixed || amount >= LEAST_PLAIN => Ok(Self::Amount(amount * factor)),
            // A few MACs are a mistaken share.
            Ok(number) if number > 1.0 => {
                let expected = format!(
                    "a share within (0, 1], or an amount; for an amount write {number}M or {number}G"
                );
                Err(Error::invalid(name, expected, text))
            }
            _ => {
                let expected = "a share such as 0.5, or an amount such as 250k, 8M or 1.3G";
                Err(Error::invalid(name, expected, format!("{text:?}")))
            }
        }
    }

    /// Refuses a share outside (0, 1], and an amount that is not positive or above 1e30.
    fn check(self, name: &str) -> Result<()> {
        match self {
            Self::Share(share) => POSITIVE_SHARE.check(name, share),
            Self::Amount(amount) => AMOUNT.check(name, amount),
        }
    }
}

/// Upper limit F* on one metric, as a share of the dense network's cost or as an amount.
///
/// ```
/// use once_for_both::cost::{Budget, CostLimit};
/// use once_for_both::models::{Architecture, VitConfig};
///
/// # fn main() -> once_for_both::Result<()> {
/// let model = VitConfig::deit_small().cost_model();
/// let limit = Budget::macs_share(0.5).resolve(&model)?;
/// assert_eq!(limit.limit, (0.5 * model.dense_cost(limit.metric)?).floor());
/// assert_eq!(Budget::params(8e6).resolve(&model)?, CostLimit::params(8e6));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Limited metric.
    pub metric: Metric,
    /// Upper limit, a share or an amount.
    pub limit: Limit,
}

impl Budget {
    /// Limits `metric` to this share of the dense network's cost.
    pub fn share(metric: Metric, share: f64) -> Self {
        Self { metric, limit: Limit::Share(share) }
    }

    /// Limits MACs to this share of those of the dense network.
    pub fn macs_share(share: f64) -> Self {
        Self::share(Metric::Macs, share)
    }

    /// Limits parameters to this share of those of the dense network.
    pub fn params_share(share: f64) -> Self {
        Self::share(Metric::Params, share)
    }

    /// Limits the MACs of one image to an amount.
    pub fn macs(amount: f64) -> Self {
        CostLimit::macs(amount).into()
    }

    /// Limits the parameters to an amount.
    pub fn params(amount: f64) -> Self {
        CostLimit::params(amount).into()
    }

    /// Limits the latency to this share of that of the dense network.
    pub fn latency_share(share: f64) -> Self {
        Self::share(Metric::Latency, share)
    }

    /// Limits the latency of a batch to an amount, in milliseconds.
    pub fn latency(milliseconds: f64) -> Self {
        CostLimit::latency(milliseconds).into()
    }

    /// Refuses a limit out of range, as the option `name`.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        self.limit.check(name)
    }

    /// Returns the limit as an amount: an amount as it is, a share as ⌊share · F_0⌋, of a latency as
    /// share · F_0.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the share is in (0, 1], or the amount in (0, 1e30];
    /// [`LatencyError::NotMeasured`](crate::error::LatencyError::NotMeasured) for a share of a latency
    /// without a model.
    pub fn resolve(&self, model: &CostModel) -> Result<CostLimit> {
        self.check("budget")?;
        let limit = match self.limit {
            Limit::Share(share) if self.metric == Metric::Latency => {
                share * model.dense_cost(self.metric)?
            }
            Limit::Share(share) => (share * model.dense_cost(self.metric)?).floor(),
            Limit::Amount(amount) => amount,
        };
        Ok(CostLimit { metric: self.metric, limit })
    }
}

/// Upper limit F* on one metric as an amount: a [`Budget`] resolved for one dense network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CostLimit {
    /// Limited metric.
    pub metric: Metric,
    /// Highest allowed cost: MACs of one image, parameters, or milliseconds of a batch.
    pub limit: f64,
}

impl From<CostLimit> for Budget {
    fn from(CostLimit { metric, limit }: CostLimit) -> Self {
        Self { metric, limit: Limit::Amount(limit) }
    }
}

impl CostLimit {
    /// Limits the MACs of one image.
    pub fn macs(limit: f64) -> Self {
        Self { metric: Metric::Macs, limit }
    }

    /// Limits the parameters.
    pub fn params(limit: f64) -> Self {
        Self { metric: Metric::Params, limit }
    }

    /// Limits the latency of a batch, in milliseconds.
    pub fn latency(limit: f64) -> Self {
        Self { metric: Metric::Latency, limit }
    }

    /// Checks that the limit lies between the lowest and the highest cost of a space.
    ///
    /// # Errors
    /// [`Error::Infeasible`] with both costs if it does not; [`Error::Invalid`] if the cost of the
    /// dense network is not positive.
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
            return Err(Error::invalid(name, "positive, because the budget limits them", dense));
        }
        if least <= self.limit && self.limit <= most {
            return Ok(());
        }
        Err(Error::Infeasible { metric: self.metric.name(), budget: self.limit, least, most })
    }
}
