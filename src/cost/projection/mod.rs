//! The budget is a promise: the most probable choice of cells whose exact cost keeps it.
//!
//! [`elimination`] finds it, for costs that multiply few dimensions at a time: one embedding (ViT),
//! or one after the other (Swin, a chain of convolutions).

mod elimination;
mod problem;
mod states;

use super::{Budget, CostModel};
use crate::space::SearchSpace;
use crate::{Error, Result};
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
    let problem = Problem { model, space, choices, budgets };
    problem.check()?;
    match elimination::solve(&problem)? {
        Some(projection) => Ok(projection),
        None => Err(Error::Conflicting { budgets: problem.budgets_in_words() }),
    }
}
