//! Terms of a cost as functions of the options of dimensions.

use super::problem::Problem;
use crate::cost::table::point;
use crate::cost::{CostFunction, Counted, Polynomial, TableCost, TableTerm};
use crate::Result;

/// Term of a cost. Dimensions are given by their index.
pub(super) enum Addend {
    /// Product of a coefficient and sizes.
    Product { coefficient: f64, factors: Vec<(usize, Counted)> },
    /// Value at every combination of options of these dimensions, those of the last side by side.
    Values { dimensions: Vec<usize>, values: Vec<f64> },
}

impl Addend {
    /// Returns the dimensions of the term.
    pub(super) fn dimensions(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            Self::Product { factors, .. } => Box::new(factors.iter().map(|(at, _)| *at)),
            Self::Values { dimensions, .. } => Box::new(dimensions.iter().copied()),
        }
    }

    /// Returns a lower bound on the term given the known options; exact if all are known.
    pub(super) fn least(&self, problem: &Problem, known: &dyn Fn(usize) -> Option<usize>) -> f64 {
        match self {
            Self::Product { coefficient, factors } => {
                let factor = |&(dimension, over): &(usize, Counted)| match known(dimension) {
                    Some(option) => over.of(problem.size(dimension, option)) as f64,
                    None => extreme(problem, dimension, over, *coefficient),
                };
                coefficient * factors.iter().map(factor).product::<f64>()
            }
            Self::Values { dimensions, values } => least_of(problem, dimensions, values, known),
        }
    }
}

/// Returns the size of a dimension that minimises a term with this coefficient.
fn extreme(problem: &Problem, dimension: usize, over: Counted, coefficient: f64) -> f64 {
    let options = 0..problem.choices[dimension].candidates.len();
    let sizes = options.map(|option| over.of(problem.size(dimension, option)) as f64);
    match coefficient < 0.0 {
        true => sizes.fold(f64::NEG_INFINITY, f64::max),
        false => sizes.fold(f64::INFINITY, f64::min),
    }
}

/// Returns the least of the values that agree with the known options.
fn least_of(
    problem: &Problem,
    dimensions: &[usize],
    values: &[f64],
    known: &dyn Fn(usize) -> Option<usize>,
) -> f64 {
    let mut indices = vec![0];
    for &dimension in dimensions {
        let count = problem.choices[dimension].candidates.len();
        let options = match known(dimension) {
            Some(option) => option..option + 1,
            None => 0..count,
        };
        let along = |at: usize| options.clone().map(move |option| at * count + option);
        indices = indices.into_iter().flat_map(along).collect();
    }
    indices.into_iter().map(|at| values[at]).fold(f64::INFINITY, f64::min)
}

/// Returns the terms of a cost; sizes outside the space have their dense value.
pub(super) fn addends(problem: &Problem, function: CostFunction) -> Result<Vec<Addend>> {
    match function {
        CostFunction::Polynomial(polynomial) => products(problem, polynomial),
        CostFunction::Tables(tables) => {
            let own = tables.terms().iter().map(|term| values(problem, tables, term));
            let constant = Addend::Product { coefficient: tables.constant(), factors: Vec::new() };
            own.chain([Ok(constant)]).collect()
        }
    }
}

fn products(problem: &Problem, polynomial: &Polynomial) -> Result<Vec<Addend>> {
    let mut products = Vec::new();
    for term in polynomial.terms() {
        let (mut coefficient, mut factors) = (term.coefficient, Vec::new());
        for factor in &term.factors {
            match problem.number(&factor.dimension) {
                Some(dimension) => factors.push((dimension, factor.over)),
                None => coefficient *= factor.at(problem.fixed(&factor.dimension)?),
            }
        }
        products.push(Addend::Product { coefficient, factors });
    }
    Ok(products)
}

/// Evaluates a term at every combination of options.
fn values(problem: &Problem, tables: &TableCost, term: &TableTerm) -> Result<Addend> {
    let (mut dimensions, mut sizes) = (Vec::new(), vec![Vec::new()]);
    for name in &term.dimensions {
        let own = match problem.number(name) {
            None => vec![point(problem.fixed(name)?)],
            Some(at) => {
                dimensions.push(at);
                let options = 0..problem.choices[at].candidates.len();
                options.map(|option| point(problem.size(at, option))).collect()
            }
        };
        let with = |before: Vec<_>| {
            own.iter().map(move |point| [before.as_slice(), &[*point]].concat()).collect::<Vec<_>>()
        };
        sizes = sizes.into_iter().flat_map(with).collect();
    }
    let values = sizes.iter().map(|sizes| tables.term_at(term, sizes)).collect();
    Ok(Addend::Values { dimensions, values })
}
