//! Projection by variable elimination (Bertelè and Brioschi 1972, Nonserial Dynamic Programming).
//!
//! Candidates are assigned to one dimension after the other. An option is the position of a candidate in its
//! [`Choice`](super::Choice). A partial choice has an option for every dimension decided so far; it
//! is stored as its cost, its Σ ln p, and its key: the options of those dimensions that later terms
//! of the cost still multiply. The embedding of a ViT is in the key until the last block, that of a
//! Swin stage until the next stage. Of the partial choices with the same key and the same cost only
//! the most probable can be part of the best choice; the others are discarded.

use super::problem::{Costs, Problem, METRICS};
use super::states::{merge, sum, thin, State};
use super::terms::{addends, Addend};
use super::Projection;
use crate::{Error, Result};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Number of partial choices kept after each dimension, 48 bytes each.
const MOST: usize = 1 << 14;
/// The same for a last pass, if no choice was found within several budgets.
const MOST_IN_LAST_PASS: usize = 1 << 18;
/// The same for a first pass, whose result is a lower bound on the best Σ ln p.
const MOST_IN_FIRST_PASS: usize = 1 << 10;

/// Terms and bounds of the step that decides one dimension.
struct Stage {
    /// For every metric, the terms whose last dimension this is.
    complete: [Vec<Addend>; METRICS],
    /// Dimensions up to this one that later terms still multiply: those in the key.
    live: Vec<usize>,
    /// Highest Σ ln p of all later dimensions.
    best_rest: f64,
}

/// Effect of an option on the partial choices with one key.
struct Move {
    /// Number of the key afterwards.
    key: u32,
    /// Cost that the option adds.
    cost: Costs,
    /// Lower bound on the cost that later terms add.
    rest: Costs,
}

/// All partial choices of one pass over the dimensions.
struct Pass {
    /// Partial choices before the first dimension, and after each dimension.
    layers: Vec<Vec<State>>,
    /// Whether partial choices were discarded that could have been part of the best choice.
    thinned: bool,
}

/// Returns the most probable choice with F ≤ F* under all budgets and F ≥ used·F* under one of them;
/// 1 − used doubles until there is such a choice. `None` if no choice is within all budgets.
///
/// A first pass finds a choice, whose Σ ln p is a lower bound for the second pass. The result is
/// exact if at most [`MOST`] partial choices at a time can exceed that bound. Otherwise only the most
/// probable of those with nearly the same cost are kept. The budgets hold in either case.
pub(super) fn solve(problem: &Problem, mut used: f64) -> Result<Option<Projection>> {
    let elimination = Elimination::new(problem)?;
    let first = elimination.pass(MOST_IN_FIRST_PASS, None);
    let mut whole = None;
    loop {
        if let Some(found) = elimination.best(&first, used)? {
            if !first.thinned {
                return Ok(Some(found));
            }
            let better = elimination.pass(MOST, Some(found.log_probability));
            return Ok(Some(elimination.best(&better, used)?.unwrap_or(found)));
        }
        let whole = whole.get_or_insert_with(|| elimination.pass(MOST, None));
        if let Some(found) = elimination.best(whole, used)? {
            return Ok(Some(found));
        }
        // Every choice within the budgets has been considered.
        if used <= 0.0 {
            return match whole.thinned {
                true => elimination.best(&elimination.pass(MOST_IN_LAST_PASS, None), used),
                false => Ok(None),
            };
        }
        used = 1.0 - 2.0 * (1.0 - used);
    }
}

/// Checks that the terms of the cost do not multiply too many dimensions with each other.
pub(super) fn expect_possible(problem: &Problem) -> Result<()> {
    Elimination::new(problem).map(drop)
}

struct Elimination<'a> {
    problem: &'a Problem<'a>,
    stages: Vec<Stage>,
    constant: Costs,
}

impl<'a> Elimination<'a> {
    fn new(problem: &'a Problem) -> Result<Self> {
        let count = problem.choices.len();
        let mut stages: Vec<Stage> = (0..count)
            .map(|_| Stage { complete: Default::default(), live: Vec::new(), best_rest: 0.0 })
            .collect();
        let mut constant = Costs::default();
        // For every dimension, the last one that it shares a term with.
        let mut last: Vec<usize> = (0..count).collect();
        for (metric, function) in problem.functions()? {
            for term in addends(problem, function)? {
                let Some(latest) = term.dimensions().max() else {
                    constant[metric] += term.least(problem, &|_| None);
                    continue;
                };
                term.dimensions().for_each(|own| last[own] = last[own].max(latest));
                stages[latest].complete[metric].push(term);
            }
        }
        let mut best_rest = 0.0;
        for at in (0..count).rev() {
            stages[at].live = (0..=at).filter(|&other| last[other] > at).collect();
            stages[at].best_rest = best_rest;
            expect_few(problem, &stages[at].live)?;
            let values = problem.choices[at].log_probability.iter();
            best_rest += values.copied().fold(f64::NEG_INFINITY, f64::max);
        }
        Ok(Self { problem, stages, constant })
    }

    /// Returns all partial choices that can still end within the budgets and, given a `floor`, with
    /// Σ ln p above it; about `most` of them after each dimension.
    fn pass(&self, most: usize, floor: Option<f64>) -> Pass {
        let start = State { cost: self.constant, value: 0.0, key: 0, parent: 0, option: 0 };
        let mut pass = Pass { layers: vec![vec![start]], thinned: false };
        let (mut keys, mut live) = (vec![Vec::new()], [].as_slice());
        for (at, stage) in self.stages.iter().enumerate() {
            let (moves, next_keys) = self.moves(at, &keys, live);
            let reachable = |value: f64| floor.is_none_or(|floor| value + stage.best_rest > floor);
            let mut next = Vec::new();
            for (parent, state) in pass.layers[at].iter().enumerate() {
                let values = &self.problem.choices[at].log_probability;
                for (option, (step, more)) in
                    moves[state.key as usize].iter().zip(values).enumerate()
                {
                    let (cost, value) = (sum(state.cost, step.cost), state.value + more);
                    if self.problem.fits(sum(cost, step.rest)) && reachable(value) {
                        next.push(State {
                            cost,
                            value,
                            key: step.key,
                            parent: parent as u32,
                            option: option as u32,
                        });
                    }
                }
            }
            merge(&mut next);
            pass.thinned |= thin(&mut next, most);
            next.shrink_to_fit();
            pass.layers.push(next);
            (keys, live) = (next_keys, stage.live.as_slice());
        }
        pass
    }

    /// Returns for every key the effect of every option of dimension `at`, and the keys afterwards.
    fn moves(
        &self,
        at: usize,
        keys: &[Vec<usize>],
        live: &[usize],
    ) -> (Vec<Vec<Move>>, Vec<Vec<usize>>) {
        let (stage, later) = (&self.stages[at], &self.stages[at + 1..]);
        let mut numbers: BTreeMap<Vec<usize>, u32> = BTreeMap::new();
        let mut moves = Vec::with_capacity(keys.len());
        for key in keys {
            let mut own = Vec::new();
            for option in 0..self.problem.choices[at].candidates.len() {
                let known = |dimension: usize| match dimension == at {
                    true => Some(option),
                    false => live.iter().position(|&other| other == dimension).map(|at| key[at]),
                };
                let mut rest = Costs::default();
                for stage in later {
                    rest = sum(rest, self.least(&stage.complete, &known));
                }
                let left: Vec<usize> = stage.live.iter().filter_map(|&d| known(d)).collect();
                let count = numbers.len() as u32;
                own.push(Move {
                    key: *numbers.entry(left).or_insert(count),
                    cost: self.least(&stage.complete, &known),
                    rest,
                });
            }
            moves.push(own);
        }
        let mut keys = vec![Vec::new(); numbers.len()];
        numbers.into_iter().for_each(|(key, number)| keys[number as usize] = key);
        (moves, keys)
    }

    /// Returns a lower bound on the sum of terms given the known options; exact if all are known.
    fn least(
        &self,
        terms: &[Vec<Addend>; METRICS],
        known: &dyn Fn(usize) -> Option<usize>,
    ) -> Costs {
        let value = |term: &Addend| term.least(self.problem, known);
        terms.each_ref().map(|terms| terms.iter().map(value).sum())
    }

    /// Returns the most probable complete choice with F ≤ F* and F ≥ used·F*.
    fn best(&self, pass: &Pass, used: f64) -> Result<Option<Projection>> {
        let last = &pass.layers[pass.layers.len() - 1];
        let mut candidates: Vec<usize> = (0..last.len()).collect();
        candidates.retain(|&state| self.problem.uses(last[state].cost, used));
        // Of equally probable choices the most expensive.
        candidates.sort_by(|&left, &right| {
            let (left, right) = (&last[left], &last[right]);
            let by_cost = || right.cost.partial_cmp(&left.cost).unwrap_or(Ordering::Equal);
            right.value.total_cmp(&left.value).then_with(by_cost)
        });
        for state in candidates {
            let options = trace(pass, state);
            let costs = self.problem.costs(&options)?;
            // The running sum can differ in the last digit, so the exact cost is compared.
            if costs.iter().zip(self.problem.budgets).all(|(cost, budget)| *cost <= budget.limit) {
                let candidates = options.iter().zip(self.problem.choices);
                let candidates =
                    candidates.map(|(&option, choice)| choice.candidates[option]).collect();
                let log_probability = last[state].value;
                return Ok(Some(Projection { candidates, log_probability, costs }));
            }
        }
        Ok(None)
    }
}

/// Checks that the number of keys is at most [`MOST`].
fn expect_few(problem: &Problem, live: &[usize]) -> Result<()> {
    let options = live.iter().map(|&dimension| problem.choices[dimension].candidates.len());
    let keys = options.fold(1_usize, |all, count| all.saturating_mul(count));
    if keys <= MOST {
        return Ok(());
    }
    let names = live.iter().map(|&dimension| problem.space.dimensions[dimension].name.as_str());
    let coupled = names.collect::<Vec<_>>().join(" × ");
    let expected = format!(
        "at most {MOST} combinations of candidates that the cost couples; leave fewer candidates \
         (SearchSpace::multiple_of, at_least) or fewer dimensions (SearchSpace::only)"
    );
    Err(Error::invalid("search space", expected, format!("{keys} of {coupled}")))
}

/// Returns the option of every dimension of a complete choice.
fn trace(pass: &Pass, mut state: usize) -> Vec<usize> {
    let mut options: Vec<usize> = Vec::with_capacity(pass.layers.len());
    for layer in pass.layers[1..].iter().rev() {
        options.push(layer[state].option as usize);
        state = layer[state].parent as usize;
    }
    options.reverse();
    options
}
