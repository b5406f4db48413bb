//! The budget is a promise: the most probable choice of candidates whose exact cost keeps it.
//!
//! [`elimination`] finds it, for costs that multiply few dimensions at a time: one embedding (ViT),
//! or one after the other (Swin, a chain of convolutions).

mod elimination;
mod order;
mod problem;
mod states;

use super::{CostLimit, CostModel};
use crate::space::SearchSpace;
use crate::{Error, Result};
use order::decision_order;
use problem::Problem;

/// What projection chooses from, for one dimension.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Numbers of the candidates that may be chosen.
    pub candidates: Vec<usize>,
    /// ln p of each of them.
    pub log_probability: Vec<f64>,
}

impl Choice {
    /// Some candidates of the dimension `name`, by number; `log_probability` is of all of its candidates.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a candidate without a log-probability, [`Error::NonFinite`] if one is NaN.
    pub fn new(name: &str, candidates: Vec<usize>, log_probability: &[f64]) -> Result<Self> {
        let known = log_probability.len();
        if let Some(candidate) = candidates.iter().find(|&&candidate| candidate >= known) {
            return Err(Error::invalid(
                format!("candidate of {name}"),
                format!("below {known}"),
                candidate,
            ));
        }
        let log_probability: Vec<f64> =
            candidates.iter().map(|&candidate| log_probability[candidate]).collect();
        if log_probability.iter().any(|value| value.is_nan()) {
            return Err(Error::NonFinite { name: "alpha".into(), dimension: name.into() });
        }
        Ok(Self { candidates, log_probability })
    }
}

/// A choice of one candidate per dimension that keeps every budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// Number of the chosen candidate, by dimension.
    pub candidates: Vec<usize>,
    /// Σ ln p of the choice.
    pub log_probability: f64,
    /// Exact cost under each budget, in the order given.
    pub costs: Vec<f64>,
}

/// The most probable of the choices whose exact cost is within every budget and within one candidate of
/// (at least) one of them.
///
/// Among the choices that cost more than `limit − s`, where s is the cheapest step from one candidate
/// to the next, the one with the largest Σ ln p. Where no choice lies in that band, s doubles. Where
/// very many choices are about as probable, the result may be one that is slightly less probable;
/// it keeps the budgets all the same.
///
/// # Errors
/// [`Error::Infeasible`] if no choice keeps a budget, [`Error::Conflicting`] if none was found that
/// keeps all of them together; [`Error::Invalid`] if no budget is given or one is not finite, if a
/// dimension has nothing to choose from, or if the cost ties too many dimensions together.
pub fn project(
    model: &CostModel,
    space: &SearchSpace,
    choices: &[Choice],
    budgets: &[CostLimit],
) -> Result<Projection> {
    if budgets.is_empty() {
        return Err(Error::invalid("number of budgets", "at least one", 0));
    }
    let declared = Problem { model, space, choices, budgets };
    declared.check()?;
    let order = decision_order(&declared);
    let (space, choices) = reordered(&declared, &order);
    let problem = Problem { model, space: &space, choices: &choices, budgets };
    let Some(found) = elimination::solve(&problem)? else {
        return Err(Error::Conflicting { budgets: problem.budgets_in_words() });
    };
    let mut candidates = vec![0; order.len()];
    order.iter().zip(&found.candidates).for_each(|(&at, &candidate)| candidates[at] = candidate);
    Ok(Projection { candidates, ..found })
}

/// Refuses before a search what [`project`] would refuse at its end, whatever α will be.
///
/// # Errors
/// Those of [`project`] but [`Error::Conflicting`].
pub(crate) fn expect_projectable(
    model: &CostModel,
    space: &SearchSpace,
    budgets: &[CostLimit],
) -> Result<()> {
    let even = |candidates: usize| Choice {
        candidates: (0..candidates).collect(),
        log_probability: vec![0.0; candidates],
    };
    let choices: Vec<Choice> = space.dimensions.iter().map(|d| even(d.candidates.len())).collect();
    let declared = Problem { model, space, choices: &choices, budgets };
    declared.check()?;
    let (space, choices) = reordered(&declared, &decision_order(&declared));
    elimination::expect_possible(&Problem { model, space: &space, choices: &choices, budgets })
}

/// Dimensions and their choices in another order.
fn reordered(problem: &Problem, order: &[usize]) -> (SearchSpace, Vec<Choice>) {
    let dimensions = order.iter().map(|&at| problem.space.dimensions[at].clone()).collect();
    let choices = order.iter().map(|&at| problem.choices[at].clone()).collect();
    (SearchSpace { dimensions }, choices)
}
