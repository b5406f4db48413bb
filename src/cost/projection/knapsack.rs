//! The knapsack at every choice of embedding cells.

use super::problem::Problem;
use super::Projection;
use crate::space::Sizes;
use crate::Result;
use std::cmp::Ordering;

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

impl Problem<'_> {
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

    pub(super) fn solve(&self, step: &[f64]) -> Result<Option<Projection>> {
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
