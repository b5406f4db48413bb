//! The input of projection: cost model, space, choices and budgets, with their checks.

use super::Choice;
use crate::cost::polynomial::size_in;
use crate::cost::{CostFunction, CostLimit, CostModel, Metric};
use crate::space::{SearchSpace, Size, Sizes};
use crate::{Error, Result};

/// Number of metrics.
pub(super) const METRICS: usize = 3;

/// Costs under all metrics, in their order here; 0 for a metric without a budget.
pub(super) type Costs = [f64; METRICS];

const ORDER: [Metric; METRICS] = [Metric::Macs, Metric::Params, Metric::Latency];

pub(super) struct Problem<'a> {
    pub(super) model: &'a CostModel,
    pub(super) space: &'a SearchSpace,
    pub(super) choices: &'a [Choice],
    pub(super) budgets: &'a [CostLimit],
}

impl Problem<'_> {
    /// Returns the size of an option of a dimension.
    pub(super) fn size(&self, dimension: usize, option: usize) -> Size {
        self.space.dimensions[dimension].candidates.size(self.choices[dimension].candidates[option])
    }

    /// Returns the index of the dimension with this name, if it is in the space.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.space.dimensions.iter().position(|dimension| dimension.name == name)
    }

    /// Returns the dense size of a dimension outside the space.
    pub(super) fn fixed(&self, name: &str) -> Result<Size> {
        size_in(&self.model.dense, name)
    }

    /// Returns the costs under a budget as functions, with their index in [`Costs`].
    pub(super) fn functions(&self) -> Result<Vec<(usize, CostFunction<'_>)>> {
        let limited = |metric: &Metric| self.budgets.iter().any(|b| b.metric == *metric);
        let metrics = ORDER.iter().enumerate().filter(|(_, metric)| limited(metric));
        metrics.map(|(at, metric)| Ok((at, self.model.function(*metric)?))).collect()
    }

    /// Returns for every budget the cost and the limit.
    fn counted(&self, costs: Costs) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.budgets.iter().map(move |budget| match budget.metric {
            Metric::Macs => (costs[0], budget.limit),
            Metric::Params => (costs[1], budget.limit),
            Metric::Latency => (costs[2], budget.limit),
        })
    }

    /// Returns whether the costs are within every budget, with 1e-12 of the limit for rounding.
    pub(super) fn fits(&self, costs: Costs) -> bool {
        self.counted(costs).all(|(cost, limit)| cost <= limit + 1e-12 * limit.abs())
    }

    /// Returns whether F ≥ used·F* under one of the budgets, or nothing has to be used.
    pub(super) fn uses(&self, costs: Costs, used: f64) -> bool {
        used <= 0.0 || self.counted(costs).any(|(cost, limit)| cost >= used * limit)
    }

    /// Returns the exact cost of a complete choice under each budget.
    pub(super) fn costs(&self, options: &[usize]) -> Result<Vec<f64>> {
        let named = self.space.dimensions.iter().enumerate();
        let sizes: Sizes =
            named.map(|(at, d)| (d.name.clone(), self.size(at, options[at]))).collect();
        self.budgets.iter().map(|budget| self.model.cost(budget.metric, &sizes)).collect()
    }

    /// Returns the sizes to choose from, for every dimension.
    fn candidates(&self) -> Vec<Vec<Size>> {
        let options = |at: usize| 0..self.choices[at].candidates.len();
        (0..self.choices.len()).map(|at| options(at).map(|o| self.size(at, o)).collect()).collect()
    }

    /// Returns all limits as text: "6 MACs and 1 parameters".
    pub(super) fn budgets_in_words(&self) -> String {
        let budgets = self.budgets.iter().map(|b| format!("{} {}", b.limit, b.metric.name()));
        budgets.collect::<Vec<_>>().join(" and ")
    }

    /// Checks that every dimension has a choice, and that every budget is feasible on its own.
    pub(super) fn check(&self) -> Result<()> {
        let (dimensions, choices) = (self.space.dimensions.len(), self.choices.len());
        if dimensions != choices {
            return Err(Error::invalid("number of choices", dimensions.to_string(), choices));
        }
        for (choice, dimension) in self.choices.iter().zip(&self.space.dimensions) {
            let (candidates, values) = (choice.candidates.len(), choice.log_probability.len());
            if candidates == 0 || candidates != values {
                let name = format!("choice of {}", dimension.name);
                let actual = format!("{candidates} candidates, {values} log-probabilities");
                return Err(Error::invalid(
                    name,
                    "as many log-probabilities as candidates, at least one",
                    actual,
                ));
            }
            let known = dimension.candidates.len();
            if let Some(candidate) = choice.candidates.iter().find(|&&candidate| candidate >= known)
            {
                let name = format!("candidate of {}", dimension.name);
                return Err(Error::invalid(name, format!("below {known}"), candidate));
            }
            if choice.log_probability.iter().any(|value| value.is_nan()) {
                let (name, dimension) = ("log-probability".into(), dimension.name.clone());
                return Err(Error::NonFinite { name, dimension });
            }
        }
        for budget in self.budgets {
            if !budget.limit.is_finite() {
                return Err(Error::invalid("budget", "finite", budget.limit));
            }
            let (least, most) = self.model.range(budget.metric, self.space, &self.candidates())?;
            if least > budget.limit {
                let (metric, budget) = (budget.metric.name(), budget.limit);
                return Err(Error::Infeasible { metric, budget, least, most });
            }
        }
        Ok(())
    }
}
