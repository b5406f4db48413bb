//! What is asked of projection: sizes to choose from, budgets to keep, and whether that can be.

use super::Choice;
use crate::cost::polynomial::size_in;
use crate::cost::{CostLimit, CostModel, Metric, Polynomial};
use crate::space::{SearchSpace, Size, Sizes};
use crate::{Error, Result};
use std::cmp::Ordering;

/// Costs in MACs and in parameters; 0 where there is no budget.
pub(super) type Costs = [f64; 2];

const METRICS: [Metric; 2] = [Metric::Macs, Metric::Params];

pub(super) struct Problem<'a> {
    pub(super) model: &'a CostModel,
    pub(super) space: &'a SearchSpace,
    pub(super) choices: &'a [Choice],
    pub(super) budgets: &'a [CostLimit],
}

impl Problem<'_> {
    pub(super) fn size(&self, dimension: usize, option: usize) -> Size {
        self.space.dimensions[dimension].candidates.size(self.choices[dimension].candidates[option])
    }

    /// Number of the dimension with this name, if it is searched.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.space.dimensions.iter().position(|dimension| dimension.name == name)
    }

    /// Size of a dimension that is not searched.
    pub(super) fn fixed(&self, name: &str) -> Result<Size> {
        size_in(&self.model.dense, name)
    }

    /// What has to be counted, with its place among [`Costs`].
    pub(super) fn polynomials(&self) -> impl Iterator<Item = (usize, &Polynomial)> {
        let limited = |metric: &Metric| self.budgets.iter().any(|b| b.metric == *metric);
        let metrics = METRICS.iter().enumerate().filter(move |(_, metric)| limited(metric));
        metrics.map(|(at, metric)| (at, self.model.polynomial(*metric)))
    }

    /// The limit of every budget.
    pub(super) fn limits(&self) -> impl Iterator<Item = f64> + '_ {
        self.budgets.iter().map(|budget| budget.limit)
    }

    /// By budget: its cost and its limit.
    fn counted(&self, costs: Costs) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.budgets.iter().map(move |budget| match budget.metric {
            Metric::Macs => (costs[0], budget.limit),
            Metric::Params => (costs[1], budget.limit),
        })
    }

    /// Whether costs are within every budget, but for rounding.
    pub(super) fn fits(&self, costs: Costs) -> bool {
        self.counted(costs).all(|(cost, limit)| cost <= limit + 1e-12 * limit.abs())
    }

    /// Whether costs come as close as `steps` to one of the budgets.
    pub(super) fn is_near(&self, costs: Costs, steps: &[f64]) -> bool {
        self.counted(costs).zip(steps).any(|((cost, limit), step)| cost > limit - step)
    }

    /// Exact cost of a whole choice under each budget.
    pub(super) fn costs(&self, options: &[usize]) -> Result<Vec<f64>> {
        let named = self.space.dimensions.iter().enumerate();
        let sizes: Sizes =
            named.map(|(at, d)| (d.name.clone(), self.size(at, options[at]))).collect();
        self.budgets.iter().map(|budget| self.model.cost(budget.metric, &sizes)).collect()
    }

    /// Sizes that may be chosen, by dimension.
    fn candidates(&self) -> Vec<Vec<Size>> {
        let options = |at: usize| 0..self.choices[at].candidates.len();
        (0..self.choices.len()).map(|at| options(at).map(|o| self.size(at, o)).collect()).collect()
    }

    pub(super) fn budgets_in_words(&self) -> String {
        let budgets = self.budgets.iter().map(|b| format!("{} {}", b.limit, b.metric.name()));
        budgets.collect::<Vec<_>>().join(" and ")
    }

    /// Every dimension has a choice, every budget is a number that some choice keeps.
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
                return Err(Error::invalid(name, "as many of both, at least one", actual));
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

    /// Smallest cost of going from one candidate of a dimension to a dearer one, all others at their
    /// cheapest, under each budget; infinite where all candidates cost the same.
    pub(super) fn cheapest_step(&self) -> Result<Vec<f64>> {
        let candidates = self.candidates();
        let mut steps = Vec::new();
        for budget in self.budgets {
            let metric = budget.metric;
            let base = self.model.extreme(metric, self.space, &candidates, Ordering::Less)?;
            let mut step = f64::INFINITY;
            for (dimension, own) in self.space.dimensions.iter().zip(&candidates) {
                let mut costs = Vec::new();
                for size in own {
                    let mut sizes = base.clone();
                    sizes.insert(dimension.name.clone(), *size);
                    costs.push(self.model.cost(metric, &sizes)?);
                }
                costs.sort_by(f64::total_cmp);
                let gaps = costs.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.0);
                step = gaps.fold(step, f64::min);
            }
            steps.push(step);
        }
        Ok(steps)
    }
}
