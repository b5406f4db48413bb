//! The budget is a promise: the most probable choice of cells whose exact cost keeps it.
//!
//! Once the embedding widths are fixed, every term of the cost holds at most one other dimension,
//! so the choice is a multiple-choice knapsack. It is solved exactly: states are all distinct
//! costs the dimensions so far can add up to, each with its most probable choice.

use super::{Budget, CostModel, Metric};
use crate::space::{ActiveSet, DimensionKind, SearchSpace, Size, Sizes};
use crate::{Error, Result};

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
        let cells: Vec<usize> = active.cells().collect();
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
/// [`Error::Infeasible`] if the smallest choice exceeds a budget; [`Error::Invalid`] if no budget
/// is given or a cost term couples two dimensions that are not embeddings.
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
        // A band as wide as the dearest choice holds every choice that fits.
        let widest = step.iter().all(|value| *value > f64::MAX / 4.0);
        step.iter_mut().for_each(|value| *value = if *value > 0.0 { *value * 2.0 } else { 1.0 });
        if widest {
            return Err(Error::invalid("budgets", "finite", "no choice near any of them"));
        }
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

    /// Sizes of the cheapest choice.
    fn smallest(&self) -> Sizes {
        let mut sizes = Sizes::new();
        for (at, dimension) in self.space.dimensions.iter().enumerate() {
            let options = 0..self.choices[at].cells.len();
            let least =
                options.map(|option| self.size(at, option)).min_by_key(|s| (s.units(), s.heads));
            sizes.extend(least.map(|size| (dimension.name.clone(), size)));
        }
        sizes
    }

    fn costs(&self, sizes: &Sizes) -> Result<Vec<f64>> {
        self.metrics().map(|metric| self.model.cost(metric, sizes)).collect()
    }

    fn fits(&self, cost: &[f64]) -> bool {
        cost.iter().zip(self.budgets).all(|(cost, budget)| *cost <= budget.limit)
    }

    /// The space is separable, and its smallest choice keeps every budget.
    fn check(&self) -> Result<()> {
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
        let least = self.costs(&self.smallest())?;
        for (least, budget) in least.iter().zip(self.budgets) {
            if *least > budget.limit {
                let most = self.model.dense_cost(budget.metric)?;
                let (metric, budget, least) = (budget.metric.name(), budget.limit, *least);
                return Err(Error::Infeasible { metric, budget, least, most });
            }
        }
        Ok(())
    }

    /// Smallest cost of going from one cell of a dimension to a dearer one, under each budget.
    fn cheapest_step(&self) -> Result<Vec<f64>> {
        let base = self.smallest();
        let mut step: Vec<f64> = self.budgets.iter().map(|budget| budget.limit).collect();
        for at in 0..self.choices.len() {
            let mut costs = Vec::new();
            for option in 0..self.choices[at].cells.len() {
                let mut sizes = base.clone();
                sizes.insert(self.space.dimensions[at].name.clone(), self.size(at, option));
                costs.push(self.costs(&sizes)?);
            }
            for (metric, step) in step.iter_mut().enumerate() {
                let mut column: Vec<f64> = costs.iter().map(|cost| cost[metric]).collect();
                column.sort_by(f64::total_cmp);
                let gaps = column.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.0);
                *step = gaps.fold(*step, f64::min);
            }
        }
        Ok(step)
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

    /// Costs of the free dimensions' options at the given embedding, relative to their first.
    fn free_options(&self, base: &Sizes) -> Result<(Vec<f64>, Vec<Options>)> {
        let constant = self.costs(base)?;
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
                let more = cost.iter().zip(&constant).map(|(cost, base)| cost - base).collect();
                states.push((more, self.choices[dimension].log_probability[option]));
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
        let mut base = self.smallest();
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
            costs
                .fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
                .then(right.value.total_cmp(&left.value))
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
