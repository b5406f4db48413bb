//! The budget is a promise: the most probable choice of cells whose exact cost keeps it.
//!
//! Once the embedding widths are fixed, every term of the cost holds at most one other dimension,
//! so the choice is a multiple-choice knapsack. It is solved exactly: states are all distinct
//! costs the dimensions so far can add up to, each with its most probable choice.

use super::{Budget, CostModel, Metric};
use crate::space::{ActiveSet, DimensionKind, SearchSpace, Size, Sizes};
use crate::{Error, Result};
use std::cmp::Ordering;

/// What projection chooses from, for one dimension.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Numbers of the cells that may be chosen.
    pub cells: Vec<usize>,
    /// ln p of each of them.
    pub log_probability: Vec<f64>,
}

impl Choice {
    /// The active cells with the logarithm of their probabilities.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a log-probability is NaN.
    pub fn new(name: &str, active: &ActiveSet, log_probability: &[f64]) -> Result<Self> {
        if log_probability.len() != active.flags().len() {
            let expected = active.flags().len().to_string();
            let name = format!("number of log-probabilities of {name}");
            return Err(Error::invalid(name, expected, log_probability.len()));
        }
        let cells: Vec<usize> = active.numbers().collect();
        let log_probability: Vec<f64> = cells.iter().map(|&cell| log_probability[cell]).collect();
        if log_probability.iter().any(|value| value.is_nan()) {
            return Err(Error::NonFinite { name: "alpha".into(), dimension: name.into() });
        }
        Ok(Self { cells, log_probability })
    }
}

/// A choice of one cell per dimension that keeps every budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// Number of the chosen cell, by dimension.
    pub cells: Vec<usize>,
    /// Σ ln p of the choice.
    pub log_probability: f64,
    /// Exact cost under each budget, in the order given.
    pub costs: Vec<f64>,
}

/// One partial choice: its cost under each budget, its log-probability, and how it came about.
#[derive(Clone)]
struct State {
    cost: Vec<f64>,
    value: f64,
    parent: usize,
    option: usize,
}

/// Cost and value of the options of one dimension.
struct Options {
    dimension: usize,
    states: Vec<(Vec<f64>, f64)>,
}

/// The most probable choice of active cells whose exact cost is within every budget and within
/// one cell of (at least) one of them.
///
/// Among the choices that cost more than `limit − s`, where s is the cheapest step from one cell
/// to the next, the one with the largest Σ ln p. Where no choice lies in that band, s doubles.
///
/// # Errors
/// [`Error::Infeasible`] if no choice keeps every budget; [`Error::Invalid`] if no budget is given
/// or one is not finite, if a dimension has nothing to choose from, or if a cost term couples two
/// dimensions that are not embeddings.
pub fn project(
    model: &CostModel,
    space: &SearchSpace,
    choices: &[Choice],
    budgets: &[Budget],
) -> Result<Projection> {
    if budgets.is_empty() {
        return Err(Error::invalid("number of budgets", "at least one", 0));
    }
    let problem = Problem { model, space, choices, budgets };
    problem.check()?;
    let mut step = problem.cheapest_step()?;
    loop {
        if let Some(projection) = problem.solve(&step)? {
            return Ok(projection);
        }
        // Once a step exceeds its budget, all choices that fit lie in the band.
        if let Some((_, budget)) = step.iter().zip(budgets).find(|(step, b)| **step > b.limit) {
            return Err(problem.infeasible(budget)?);
        }
        step.iter_mut().for_each(|value| *value *= 2.0);
    }
}

struct Problem<'a> {
    model: &'a CostModel,
    space: &'a SearchSpace,
    choices: &'a [Choice],
    budgets: &'a [Budget],
}

impl Problem<'_> {
    fn metrics(&self) -> impl Iterator<Item = Metric> + '_ {
        self.budgets.iter().map(|budget| budget.metric)
    }

    fn is_shared(&self, dimension: usize) -> bool {
        self.space.dimensions[dimension].kind == DimensionKind::Embedding
    }

    fn size(&self, dimension: usize, option: usize) -> Size {
        self.space.dimensions[dimension].cells.size(self.choices[dimension].cells[option])
    }

    /// Sizes that may be chosen, by dimension.
    fn candidates(&self) -> Vec<Vec<Size>> {
        let options = |at: usize| 0..self.choices[at].cells.len();
        (0..self.choices.len()).map(|at| options(at).map(|o| self.size(at, o)).collect()).collect()
    }

    /// The error of a budget that no choice keeps.
    fn infeasible(&self, budget: &Budget) -> Result<Error> {
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

    fn costs(&self, sizes: &Sizes) -> Result<Vec<f64>> {
        self.metrics().map(|metric| self.model.cost(metric, sizes)).collect()
    }

    fn fits(&self, cost: &[f64]) -> bool {
        cost.iter().zip(self.budgets).all(|(cost, budget)| *cost <= budget.limit)
    }

    /// The space is separable, and some choice keeps each budget.
    fn check(&self) -> Result<()> {
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
    fn cheapest_step(&self) -> Result<Vec<f64>> {
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

    /// Every combination of embedding cells, the most promising first.
    fn shared_choices(&self) -> Vec<(Vec<usize>, f64)> {
        let mut combinations = vec![(vec![0; self.choices.len()], 0.0)];
        for at in (0..self.choices.len()).filter(|&at| self.is_shared(at)) {
            let values = &self.choices[at].log_probability;
            combinations = combinations
                .into_iter()
                .flat_map(|(options, value)| {
                    values.iter().enumerate().map(move |(option, more)| {
                        let mut options = options.clone();
                        options[at] = option;
                        (options, value + more)
                    })
                })
                .collect();
        }
        combinations.sort_by(|left, right| right.1.total_cmp(&left.1));
        combinations
    }

    fn solve(&self, step: &[f64]) -> Result<Option<Projection>> {
        let free = (0..self.choices.len()).filter(|&at| !self.is_shared(at));
        let best_free: f64 = free
            .map(|at| self.choices[at].log_probability.iter().copied().fold(f64::MIN, f64::max))
            .sum();
        let mut best: Option<Projection> = None;
        for (options, value) in self.shared_choices() {
            // No choice at this or a later embedding can be more probable than the one found.
            if best.as_ref().is_some_and(|best| value + best_free <= best.log_probability) {
                break;
            }
            if let Some(found) = self.knapsack(options, value, step)? {
                if best.as_ref().is_none_or(|best| found.log_probability > best.log_probability) {
                    best = Some(found);
                }
            }
        }
        Ok(best)
    }

    /// Costs of the free dimensions' options at the given embedding, relative to the cheapest, and
    /// the cost of the cheapest of all.
    fn free_options(&self, base: &Sizes) -> Result<(Vec<f64>, Vec<Options>)> {
        let at_base = self.costs(base)?;
        let mut constant = at_base.clone();
        let mut all = Vec::new();
        for dimension in (0..self.choices.len()).filter(|&at| !self.is_shared(at)) {
            let mut states = Vec::new();
            for option in 0..self.choices[dimension].cells.len() {
                let mut sizes = base.clone();
                sizes.insert(
                    self.space.dimensions[dimension].name.clone(),
                    self.size(dimension, option),
                );
                let cost = self.costs(&sizes)?;
                let more: Vec<f64> =
                    cost.iter().zip(&at_base).map(|(cost, base)| cost - base).collect();
                states.push((more, self.choices[dimension].log_probability[option]));
            }
            // The cheapest option under one budget may not be so under another.
            for (metric, constant) in constant.iter_mut().enumerate() {
                let least =
                    states.iter().map(|state| state.0[metric]).fold(f64::INFINITY, f64::min);
                *constant += least;
                states.iter_mut().for_each(|state| state.0[metric] -= least);
            }
            all.push(Options { dimension, states });
        }
        Ok((constant, all))
    }

    /// The knapsack at one choice of embedding cells.
    fn knapsack(
        &self,
        options: Vec<usize>,
        value: f64,
        step: &[f64],
    ) -> Result<Option<Projection>> {
        let first = (0..self.choices.len()).map(|at| self.size(at, 0));
        let names = self.space.dimensions.iter().map(|dimension| dimension.name.clone());
        let mut base: Sizes = names.zip(first).collect();
        for at in (0..self.choices.len()).filter(|&at| self.is_shared(at)) {
            base.insert(self.space.dimensions[at].name.clone(), self.size(at, options[at]));
        }
        let (constant, free) = self.free_options(&base)?;
        let mut layers = vec![vec![State { cost: constant, value, parent: 0, option: 0 }]];
        for dimension in &free {
            let states = self.extend(&layers[layers.len() - 1], dimension);
            layers.push(states);
        }
        let last = &layers[layers.len() - 1];
        let near = |cost: &[f64]| {
            cost.iter().zip(self.budgets).zip(step).any(|((cost, b), step)| *cost > b.limit - step)
        };
        let winner = (0..last.len())
            .filter(|&at| self.fits(&last[at].cost) && near(&last[at].cost))
            .max_by(|&left, &right| last[left].value.total_cmp(&last[right].value));
        Ok(winner.map(|winner| self.trace(options, &free, &layers, winner)))
    }

    /// All distinct costs one more dimension leads to, each with its most probable choice.
    ///
    /// Options are relative to the cheapest cell, so costs never fall and what exceeds a budget
    /// now exceeds it at the end.
    fn extend(&self, states: &[State], dimension: &Options) -> Vec<State> {
        let mut next = Vec::with_capacity(states.len() * dimension.states.len());
        for (parent, state) in states.iter().enumerate() {
            for (option, (more, value)) in dimension.states.iter().enumerate() {
                let cost: Vec<f64> = state.cost.iter().zip(more).map(|(a, b)| a + b).collect();
                if self.fits(&cost) {
                    next.push(State { cost, value: state.value + value, parent, option });
                }
            }
        }
        next.sort_by(|left, right| {
            let costs = left.cost.iter().zip(&right.cost).map(|(l, r)| l.total_cmp(r));
            costs.fold(Ordering::Equal, Ordering::then).then(right.value.total_cmp(&left.value))
        });
        next.dedup_by(|later, first| later.cost == first.cost);
        next
    }

    /// Follows the parents of the winning state back to its cells.
    fn trace(
        &self,
        mut options: Vec<usize>,
        free: &[Options],
        layers: &[Vec<State>],
        winner: usize,
    ) -> Projection {
        let last = &layers[layers.len() - 1][winner];
        let (log_probability, costs) = (last.value, last.cost.clone());
        let mut at = winner;
        for (layer, dimension) in layers[1..].iter().zip(free).rev() {
            options[dimension.dimension] = layer[at].option;
            at = layer[at].parent;
        }
        let cells = options.iter().zip(self.choices).map(|(&option, choice)| choice.cells[option]);
        Projection { cells: cells.collect(), log_probability, costs }
    }
}
