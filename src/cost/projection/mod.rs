//! The budget is a promise: the most probable choice of cells whose exact cost keeps it.
//!
//! [`elimination`] finds it, for costs that multiply few dimensions at a time: one embedding (ViT),
//! or one after the other (Swin, a chain of convolutions).

mod elimination;
mod order;
mod problem;
mod states;

use super::{Budget, CostModel};
use crate::space::SearchSpace;
use crate::{Error, Result};
use order::decision_order;
use problem::Problem;

/// What projection chooses from, for one dimension.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Numbers of the cells that may be chosen.
    pub cells: Vec<usize>,
    /// ln p of each of them.
    pub log_probability: Vec<f64>,
}

impl Choice {
    /// Some cells of the dimension `name`, by number; `log_probability` is of all of its cells.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a cell without a log-probability, [`Error::NonFinite`] if one is NaN.
    pub fn new(name: &str, cells: Vec<usize>, log_probability: &[f64]) -> Result<Self> {
        let known = log_probability.len();
        if let Some(cell) = cells.iter().find(|&&cell| cell >= known) {
            return Err(Error::invalid(format!("cell of {name}"), format!("below {known}"), cell));
        }
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

/// The most probable of the choices whose exact cost is within every budget and within one cell of
/// (at least) one of them.
///
/// Among the choices that cost more than `limit − s`, where s is the cheapest step from one cell
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
    budgets: &[Budget],
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
    let mut cells = vec![0; order.len()];
    order.iter().zip(&found.cells).for_each(|(&at, &cell)| cells[at] = cell);
    Ok(Projection { cells, ..found })
}

/// Refuses before a search what [`project`] would refuse at its end, whatever α will be.
///
/// # Errors
/// Those of [`project`] but [`Error::Conflicting`].
pub(crate) fn expect_projectable(
    model: &CostModel,
    space: &SearchSpace,
    budgets: &[Budget],
) -> Result<()> {
    let even =
        |cells: usize| Choice { cells: (0..cells).collect(), log_probability: vec![0.0; cells] };
    let choices: Vec<Choice> = space.dimensions.iter().map(|d| even(d.cells.len())).collect();
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
