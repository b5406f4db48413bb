//! Dimensions are decided one after the other, and forgotten as soon as no later cost depends on
//! them.
//!
//! A partial choice is its cost so far, its log-probability, and the options of those dimensions
//! that later terms of the cost still multiply (its key): the embedding of a ViT until the last
//! block, one stage's embedding of a Swin until the next stage. Of partial choices with the same
//! key and the same cost only the most probable can be part of the best choice, so the others go
//! (Bertelè and Brioschi 1972, Nonserial Dynamic Programming).

use super::problem::{Costs, Problem};
use super::states::{merge, sum, thin, State};
use super::Projection;
use crate::cost::Polynomial;
use crate::space::Over;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Most partial choices that are kept after each dimension, 40 bytes each.
const MOST: usize = 1 << 14;
/// The same where several budgets have let nothing through, before it is given up.
const LAST_LOOK: usize = 1 << 18;
/// The same for the first look, whose result bounds what can still be better.
const FIRST_LOOK: usize = 1 << 10;

/// coefficient × product of sizes, in numbers of dimensions.
struct Monomial {
    coefficient: f64,
    factors: Vec<(usize, Over)>,
}

/// What happens when a dimension is decided.
struct Stage {
    /// Terms of the cost that can be computed now, by metric.
    complete: [Vec<Monomial>; 2],
    /// Dimensions, up to this one, that later terms still multiply.
    live: Vec<usize>,
    /// Σ ln p of the most probable options of all later dimensions.
    best_rest: f64,
}

/// What an option adds to partial choices of one key.
struct Move {
    key: u32,
    cost: Costs,
    /// The least that later terms can add.
    rest: Costs,
}

/// All partial choices, dimension by dimension.
struct Pass {
    layers: Vec<Vec<State>>,
    /// Whether some were left out that might have been part of the best.
    thinned: bool,
}

/// The most probable choice within the budgets, and above `limit − step` under one of them; the
/// steps double until there is one.
///
/// It is exact where no more than [`MOST`] partial choices at a time can still be part of a better
/// choice than a first look has found; beyond that, of partial choices of nearly the same cost only
/// the most probable are followed. Budgets are kept in either case.
pub(super) fn solve(problem: &Problem) -> Result<Option<Projection>> {
    let elimination = Elimination::new(problem)?;
    let mut step = problem.cheapest_step()?;
    let first = elimination.pass(FIRST_LOOK, None);
    let mut whole = None;
    loop {
        if let Some(found) = elimination.best(&first, &step)? {
            if !first.thinned {
                return Ok(Some(found));
            }
            let better = elimination.pass(MOST, Some(found.log_probability));
            return Ok(Some(elimination.best(&better, &step)?.unwrap_or(found)));
        }
        let whole = whole.get_or_insert_with(|| elimination.pass(MOST, None));
        if let Some(found) = elimination.best(whole, &step)? {
            return Ok(Some(found));
        }
        // Once a step exceeds its limit, all choices that fit lie in the band.
        if step.iter().zip(problem.limits()).any(|(step, limit)| *step > limit) {
            return match whole.thinned {
                true => elimination.best(&elimination.pass(LAST_LOOK, None), &step),
                false => Ok(None),
            };
        }
        step.iter_mut().for_each(|value| *value *= 2.0);
    }
}

/// Refuses a cost that ties too many dimensions together, without solving anything.
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
        // By dimension: the last one that it shares a term with.
        let mut last: Vec<usize> = (0..count).collect();
        for (metric, polynomial) in problem.polynomials() {
            for term in monomials(problem, polynomial)? {
                let Some(latest) = term.factors.iter().map(|(dimension, _)| *dimension).max()
                else {
                    constant[metric] += term.coefficient;
                    continue;
                };
                for (dimension, _) in &term.factors {
                    last[*dimension] = last[*dimension].max(latest);
                }
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

    /// All partial choices that can still keep the limits and, if there is a floor, be more
    /// probable than that; no more than about `most` of them at a time.
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

    /// By key, what every option of dimension `at` adds; and the keys there are afterwards.
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

    /// The least that terms can come to with the options that are known; exact if all are.
    fn least(&self, terms: &[Vec<Monomial>; 2], known: &dyn Fn(usize) -> Option<usize>) -> Costs {
        terms.each_ref().map(|terms| {
            let value = |term: &Monomial| {
                let factor = |&(dimension, over): &(usize, Over)| match known(dimension) {
                    Some(option) => over.of(self.problem.size(dimension, option)) as f64,
                    None => self.extreme(dimension, over, term.coefficient),
                };
                term.coefficient * term.factors.iter().map(factor).product::<f64>()
            };
            terms.iter().map(value).sum()
        })
    }

    /// The size of a dimension that makes a term the least.
    fn extreme(&self, dimension: usize, over: Over, coefficient: f64) -> f64 {
        let options = 0..self.problem.choices[dimension].candidates.len();
        let sizes = options.map(|option| over.of(self.problem.size(dimension, option)) as f64);
        match coefficient < 0.0 {
            true => sizes.fold(f64::NEG_INFINITY, f64::max),
            false => sizes.fold(f64::INFINITY, f64::min),
        }
    }

    /// The most probable of the whole choices that fit and lie in the band.
    fn best(&self, pass: &Pass, step: &[f64]) -> Result<Option<Projection>> {
        let last = &pass.layers[pass.layers.len() - 1];
        let mut candidates: Vec<usize> = (0..last.len()).collect();
        candidates.retain(|&state| self.problem.is_near(last[state].cost, step));
        candidates.sort_by(|&left, &right| last[right].value.total_cmp(&last[left].value));
        for state in candidates {
            let options = trace(pass, state);
            let costs = self.problem.costs(&options)?;
            // Sums in another order may differ in the last digit: the exact cost counts.
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

/// Refuses costs for which the options of too many dimensions have to be remembered at a time.
fn expect_few(problem: &Problem, live: &[usize]) -> Result<()> {
    let options = live.iter().map(|&dimension| problem.choices[dimension].candidates.len());
    if options.fold(1_usize, |all, count| all.saturating_mul(count)) <= MOST {
        return Ok(());
    }
    let names = live.iter().map(|&dimension| problem.space.dimensions[dimension].name.as_str());
    let expected = format!("terms that tie at most {MOST} choices together at a time");
    Err(Error::invalid("cost model", expected, names.collect::<Vec<_>>().join(" × ")))
}

/// The options of a whole choice, by dimension.
fn trace(pass: &Pass, mut state: usize) -> Vec<usize> {
    let mut options: Vec<usize> = Vec::with_capacity(pass.layers.len());
    for layer in pass.layers[1..].iter().rev() {
        options.push(layer[state].option as usize);
        state = layer[state].parent as usize;
    }
    options.reverse();
    options
}

/// The terms of a cost; what the space does not search enters the coefficients.
fn monomials(problem: &Problem, polynomial: &Polynomial) -> Result<Vec<Monomial>> {
    let mut monomials = Vec::new();
    for term in polynomial.terms() {
        let (mut coefficient, mut factors) = (term.coefficient, Vec::new());
        for factor in &term.factors {
            match problem.number(&factor.dimension) {
                Some(dimension) => factors.push((dimension, factor.over)),
                None => coefficient *= factor.at(problem.fixed(&factor.dimension)?),
            }
        }
        monomials.push(Monomial { coefficient, factors });
    }
    Ok(monomials)
}
