//! What is asked of projection: sizes to choose from, budgets to keep, and whether that can be.

use super::Choice;
use crate::cost::{Budget, CostModel, Metric};
use crate::space::{DimensionKind, SearchSpace, Size, Sizes};
use crate::{Error, Result};
use std::cmp::Ordering;

pub(super) struct Problem<'a> {
    pub(super) model: &'a CostModel,
    pub(super) space: &'a SearchSpace,
    pub(super) choices: &'a [Choice],
    pub(super) budgets: &'a [Budget],
}

impl Problem<'_> {
    fn metrics(&self) -> impl Iterator<Item = Metric> + '_ {
        self.budgets.iter().map(|budget| budget.metric)
    }

    pub(super) fn is_shared(&self, dimension: usize) -> bool {
        self.space.dimensions[dimension].kind == DimensionKind::Embedding
    }

    pub(super) fn size(&self, dimension: usize, option: usize) -> Size {
        self.space.dimensions[dimension].cells.size(self.choices[dimension].cells[option])
    }

    /// Sizes that may be chosen, by dimension.
    fn candidates(&self) -> Vec<Vec<Size>> {
        let options = |at: usize| 0..self.choices[at].cells.len();
        (0..self.choices.len()).map(|at| options(at).map(|o| self.size(at, o)).collect()).collect()
    }

    /// The error of a budget that no choice keeps.
    pub(super) fn infeasible(&self, budget: &Budget) -> Result<Error> {
        let (least, _) = self.model.range(budget.metric, self.space, &self.candidates())?;
        let most = self.model.dense_cost(budget.metric)?;
        let (metric, budget) = (budget.metric.name(), budget.limit);
        Ok(Error::Infeasible { metric, budget, least, most })
    }

    /// Every dimension has a choice, and every budget is a number.
    fn check_input(&self) -> Result<()> {
        let (dimensions, choices) = (self.space.dimensions.len(), self.choices.len());
        if dimensions != choices {
            return Err(Error::invalid("number of choices", dimensions.to_string(), choices));
        }
        for (choice, dimension) in self.choices.iter().zip(&self.space.dimensions) {
            let (cells, values) = (choice.cells.len(), choice.log_probability.len());
            if cells == 0 || cells != values {
                let name = format!("choice of {}", dimension.name);
                let actual = format!("{cells} cells, {values} log-probabilities");
                return Err(Error::invalid(name, "as many of both, at least one", actual));
            }
        }
        match self.budgets.iter().find(|budget| !budget.limit.is_finite()) {
            Some(budget) => Err(Error::invalid("budget", "finite", budget.limit)),
            None => Ok(()),
        }
    }

    pub(super) fn costs(&self, sizes: &Sizes) -> Result<Vec<f64>> {
        self.metrics().map(|metric| self.model.cost(metric, sizes)).collect()
    }

    pub(super) fn fits(&self, cost: &[f64]) -> bool {
        cost.iter().zip(self.budgets).all(|(cost, budget)| *cost <= budget.limit)
    }

    /// The space is separable, and some choice keeps each budget.
    pub(super) fn check(&self) -> Result<()> {
        self.check_input()?;
        let shared = |name: &str| {
            let found = self.space.dimensions.iter().position(|dimension| dimension.name == name);
            found.is_none_or(|at| self.is_shared(at))
        };
        for metric in self.metrics() {
            for term in self.model.polynomial(metric).terms() {
                let mut free: Vec<&str> = term
                    .factors
                    .iter()
                    .map(|f| f.dimension.as_str())
                    .filter(|n| !shared(n))
                    .collect();
                free.dedup();
                if free.len() > 1 {
                    let expected = "terms with at most one dimension besides embeddings";
                    return Err(Error::invalid("cost model", expected, free.join(" × ")));
                }
            }
        }
        for budget in self.budgets {
            let (least, _) = self.model.range(budget.metric, self.space, &self.candidates())?;
            if least > budget.limit {
                return Err(self.infeasible(budget)?);
            }
        }
        Ok(())
    }

    /// Smallest cost of going from one cell of a dimension to a dearer one, all others at their
    /// cheapest, under each budget; infinite where all cells cost the same.
    pub(super) fn cheapest_step(&self) -> Result<Vec<f64>> {
        let candidates = self.candidates();
        let mut steps = Vec::new();
        for metric in self.metrics() {
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
