//! Forecast: the sizes with the smallest sum of measured rises under each of several budgets.

use super::{Calibration, Rise, Sensitivity};
use crate::cost::{project_close, Budget, Choice, CostLimit, CostModel, Metric};
use crate::models::Architecture;
use crate::space::{SearchSpace, Size, Sizes};
use crate::supernet::Supernet;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Limits, evenly spaced from the present cost down to the lowest budget, at which the order of
/// [`GivesWay`] is found.
const STEPS: usize = 20;

/// Choice of sizes for one budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForecastPoint {
    /// The budget, resolved.
    pub budget: CostLimit,
    /// Exact cost of the choice, as a share of the dense network's.
    pub share: f64,
    /// Size of every dimension.
    pub sizes: Sizes,
    /// Sum of the measured rises of all dimensions, in units of the loss.
    pub predicted: f64,
    /// Rise with all dimensions pruned at once, where it was measured ([`Forecast::check`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Rise>,
}

/// Highest limit at which a dimension is pruned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GivesWay {
    /// Name of the dimension.
    pub dimension: String,
    /// The limit, as a share of the dense network's cost.
    pub share: f64,
    /// Size of the dimension under that limit.
    pub size: Size,
}

/// What budgets will cost in loss, before any search and without training.
///
/// Its [`Display`](std::fmt::Display) is a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Number of calibration images.
    pub images: usize,
    /// Mean loss of the network before pruning.
    pub loss: f64,
    /// Metric that all budgets limit.
    pub metric: Metric,
    /// One choice a budget, the highest budget first.
    pub points: Vec<ForecastPoint>,
    /// Dimensions in the order in which falling limits prune them; without those that keep their size.
    pub order: Vec<GivesWay>,
}

impl Sensitivity {
    /// Returns, for each budget alone, the choice of one candidate per dimension with the smallest sum
    /// of measured rises that uses at least 98 % of the budget, if any does, by [`project_close`] with ln p = −rise; and the
    /// order in which falling limits prune the dimensions.
    ///
    /// The sum is a forecast of the loss right after pruning. It knows no interaction of dimensions,
    /// and nothing of what training repairs; [`Forecast::check`] measures the first.
    ///
    /// # Shapes
    /// `model` and `space` are those of the measured supernet.
    ///
    /// # Errors
    /// [`Error::Invalid`] without budgets, or if they limit different metrics; [`Error::Unknown`] or
    /// [`Error::Invalid`] for a dimension of `space` or a size that was not measured; those of
    /// [`project_close`], such as [`Error::Infeasible`].
    pub fn forecast(
        &self,
        model: &CostModel,
        space: &SearchSpace,
        budgets: &[Budget],
    ) -> Result<Forecast> {
        let metric = common_metric(budgets)?;
        let projection = Projecting { choices: self.choices(space)?, model, space, metric };
        let limits = budgets.iter().map(|budget| budget.resolve(model));
        let mut limits: Vec<f64> = limits.map(|limit| Ok(limit?.limit)).collect::<Result<_>>()?;
        limits.sort_by(|left, right| right.total_cmp(left));
        let points: Vec<ForecastPoint> =
            limits.iter().map(|&limit| projection.at(limit)).collect::<Result<_>>()?;
        let lowest = limits.last().copied().unwrap_or(0.0);
        let order = projection.order(lowest)?;
        Ok(Forecast { images: self.images, loss: self.loss, metric, points, order })
    }

    /// Returns the measured candidates of every dimension of a space, with ln p = −rise.
    fn choices(&self, space: &SearchSpace) -> Result<Vec<Choice>> {
        let choice = |dimension: &crate::space::Dimension| {
            let own = self.dimension(&dimension.name)?;
            let sizes: Vec<Size> = dimension.candidates.sizes().collect();
            let mut log_p = vec![0.0; sizes.len()];
            let mut measured = Vec::new();
            for candidate in &own.candidates {
                let at =
                    sizes.iter().position(|size| *size == candidate.size).ok_or_else(|| {
                        let name = format!("measured size of {}", own.name);
                        Error::invalid(name, "a candidate of the search space", candidate.size)
                    })?;
                log_p[at] = -candidate.rise.mean;
                measured.push(at);
            }
            Choice::new(&own.name, measured, &log_p)
        };
        space.dimensions.iter().map(choice).collect()
    }
}

impl Forecast {
    /// Measures every choice with all its dimensions pruned at once, on the network that the
    /// sensitivity was measured on, without training: [`ForecastPoint::measured`].
    ///
    /// # Errors
    /// Those of [`Calibration::rise`].
    pub fn check<A: Architecture>(
        &mut self,
        calibration: &mut Calibration,
        supernet: &Supernet<A>,
    ) -> Result<()> {
        for point in &mut self.points {
            point.measured = Some(calibration.rise(supernet, &point.sizes)?);
        }
        Ok(())
    }
}

/// Projections of one sensitivity under limits of one metric.
struct Projecting<'a> {
    choices: Vec<Choice>,
    model: &'a CostModel,
    space: &'a SearchSpace,
    metric: Metric,
}

impl Projecting<'_> {
    fn at(&self, limit: f64) -> Result<ForecastPoint> {
        let budget = CostLimit { metric: self.metric, limit };
        let found = project_close(self.model, self.space, &self.choices, &[budget])?;
        let dimensions = self.space.dimensions.iter().zip(&found.candidates);
        let sizes = dimensions
            .map(|(own, &candidate)| (own.name.clone(), own.candidates.size(candidate)))
            .collect();
        let share = self.model.cost(self.metric, &sizes)? / self.model.dense_cost(self.metric)?;
        Ok(ForecastPoint {
            budget,
            share,
            sizes,
            // Not −0, which would be printed with its sign.
            predicted: 0.0 - found.log_probability,
            measured: None,
        })
    }

    /// Returns the dimensions in the order in which limits that fall to `lowest` prune them.
    fn order(&self, lowest: f64) -> Result<Vec<GivesWay>> {
        let full = self.space.full_sizes();
        let present = self.model.cost(self.metric, &full)?;
        let dense = self.model.dense_cost(self.metric)?;
        let mut order: Vec<GivesWay> = Vec::new();
        for step in 1..=STEPS {
            let limit = present - (present - lowest) * step as f64 / STEPS as f64;
            let sizes = self.at(limit)?.sizes;
            let pruned = self.space.dimensions.iter().filter_map(|dimension| {
                let (name, size) = (&dimension.name, *sizes.get(&dimension.name)?);
                let new = full.get(name) != Some(&size)
                    && order.iter().all(|known| known.dimension != *name);
                let own = GivesWay { dimension: name.clone(), share: limit / dense, size };
                new.then_some((size.units() as f64 / dimension.candidates.units() as f64, own))
            });
            let mut pruned: Vec<(f64, GivesWay)> = pruned.collect();
            pruned.sort_by(|left, right| left.0.total_cmp(&right.0));
            order.extend(pruned.into_iter().map(|(_, own)| own));
        }
        Ok(order)
    }
}

/// Returns the metric of all budgets.
fn common_metric(budgets: &[Budget]) -> Result<Metric> {
    let Some(first) = budgets.first() else {
        return Err(Error::invalid("number of budgets of a forecast", "at least one", 0));
    };
    match budgets.iter().find(|budget| budget.metric != first.metric) {
        None => Ok(first.metric),
        Some(other) => {
            let expected = format!("{}, as of the first; forecast each alone", first.metric.name());
            Err(Error::invalid("metric of a budget", expected, other.metric.name()))
        }
    }
}
