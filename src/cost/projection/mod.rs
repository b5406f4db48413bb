//! Projection: the choice of one candidate per dimension with the highest Σ ln p under all budgets.
//!
//! [`elimination`] is the algorithm. It needs a cost in which each term multiplies few dimensions:
//! all with one embedding (ViT), or neighbours with each other (Swin, a chain of convolutions).

mod elimination;
mod order;
mod problem;
mod states;
mod terms;

use super::{CostLimit, CostModel};
use crate::space::SearchSpace;
use crate::{Error, Result};
use order::decision_order;
use problem::Problem;

/// Share of a budget that a choice close to it may leave unused.
pub(crate) const MOST_UNUSED: f64 = 0.02;

/// Candidates of one dimension that projection may choose, with their ln p.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Numbers of the candidates.
    pub candidates: Vec<usize>,
    /// ln p of each, in the same order.
    pub log_probability: Vec<f64>,
}

impl Choice {
    /// Returns the choice among `candidates` of dimension `name`.
    ///
    /// # Shapes
    /// `log_probability`: ln p of all candidates of the dimension, by number.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a candidate that `log_probability` does not have, [`Error::NonFinite`]
    /// if an ln p is NaN.
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

/// One candidate per dimension, within all budgets.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// Number of the chosen candidate of every dimension.
    pub candidates: Vec<usize>,
    /// Σ ln p of the chosen candidates.
    pub log_probability: f64,
    /// Exact cost under each budget, in the order of the budgets.
    pub costs: Vec<f64>,
}

/// Returns the choice of one candidate per dimension with the highest Σ ln p whose exact cost is within
/// every budget.
///
/// The result is exact as long as at most 16,384 combinations of cost and Σ ln p have to be compared
/// at a time. Beyond that, as for DeiT-S with all candidates, Σ ln p can be slightly below the
/// highest. The budgets hold in either case.
///
/// ```
/// use once_for_both::cost::{project, Choice, CostLimit, CostModel, Polynomial};
/// use once_for_both::space::{Candidates, Dimension, DimensionKind, SearchSpace};
///
/// # fn main() -> once_for_both::Result<()> {
/// let candidates = Candidates::flat(8, vec![2, 4, 8])?;
/// let hidden = Dimension::new("hidden", DimensionKind::Hidden, candidates);
/// let space = SearchSpace { dimensions: vec![hidden] };
/// let macs = Polynomial::units("hidden") * 10;
/// let model = CostModel::new(macs.clone(), macs, space.full_sizes());
/// let p = [0.2_f64, 0.3, 0.5];
/// let choice = Choice::new("hidden", vec![0, 1, 2], &p.map(f64::ln))?;
/// let found = project(&model, &space, &[choice], &[CostLimit::macs(50.0)])?;
/// assert_eq!((found.candidates, found.costs), (vec![1], vec![40.0]));
/// # Ok(())
/// # }
/// ```
///
/// # Shapes
/// `choices`: one per dimension of `space`.
///
/// # Errors
/// [`Error::Infeasible`] if no choice is within a budget; [`Error::Conflicting`] if none was found
/// within all budgets together; [`Error::NonFinite`] if an ln p is NaN; [`Error::Invalid`] without a
/// budget, for a budget that is not finite, for a dimension without candidates, or if the terms of
/// the cost multiply too many dimensions with each other.
pub fn project(
    model: &CostModel,
    space: &SearchSpace,
    choices: &[Choice],
    budgets: &[CostLimit],
) -> Result<Projection> {
    project_using(model, space, choices, budgets, 0.0)
}

/// Returns the choice of one candidate per dimension with the highest Σ ln p among those that are within
/// every budget and use at least 98 % of one: 0.98·F* ≤ F ≤ F*.
///
/// The share left unused, 2 %, doubles until there is such a choice. For ln p that do not rise with the
/// size, whose most probable choice may be far below the budgets.
///
/// # Shapes
/// As for [`project`].
///
/// # Errors
/// Those of [`project`].
pub fn project_close(
    model: &CostModel,
    space: &SearchSpace,
    choices: &[Choice],
    budgets: &[CostLimit],
) -> Result<Projection> {
    project_using(model, space, choices, budgets, 1.0 - MOST_UNUSED)
}

/// Returns the most probable choice within every budget that uses this share of one of them, or, if there is none, of
/// a share whose distance to 1 doubles until there is one.
fn project_using(
    model: &CostModel,
    space: &SearchSpace,
    choices: &[Choice],
    budgets: &[CostLimit],
    used: f64,
) -> Result<Projection> {
    if budgets.is_empty() {
        return Err(Error::invalid("number of budgets", "at least one", 0));
    }
    let declared = Problem { model, space, choices, budgets };
    declared.check()?;
    let order = decision_order(&declared)?;
    let (space, choices) = reordered(&declared, &order);
    let problem = Problem { model, space: &space, choices: &choices, budgets };
    let Some(found) = elimination::solve(&problem, used)? else {
        return Err(Error::Conflicting { budgets: problem.budgets_in_words() });
    };
    let mut candidates = vec![0; order.len()];
    order.iter().zip(&found.candidates).for_each(|(&at, &candidate)| candidates[at] = candidate);
    Ok(Projection { candidates, ..found })
}

/// Checks that [`project`] accepts the space, the cost model and the budgets, whatever α will be.
///
/// # Errors
/// Those of [`project`], except [`Error::Conflicting`].
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
    let (space, choices) = reordered(&declared, &decision_order(&declared)?);
    elimination::expect_possible(&Problem { model, space: &space, choices: &choices, budgets })
}

/// Returns the dimensions and their choices in this order.
fn reordered(problem: &Problem, order: &[usize]) -> (SearchSpace, Vec<Choice>) {
    let dimensions = order.iter().map(|&at| problem.space.dimensions[at].clone()).collect();
    let choices = order.iter().map(|&at| problem.choices[at].clone()).collect();
    (SearchSpace { dimensions }, choices)
}
