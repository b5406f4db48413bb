//! The order in which projection decides the dimensions.

use super::problem::Problem;
use crate::Result;

/// Returns the indices of the dimensions in the order of decision, with few keys at every step
/// ([`elimination`](super::elimination)).
///
/// A greedy order takes the dimension that leaves the fewest keys next; of equals, the one declared
/// first. It may take many dimensions with few candidates before the one that all of them share a term
/// with, so that their keys multiply. So it is also tried from every dimension as the first one, and
/// the order whose most keys are fewest is returned; of equals, the one without a given first.
///
/// Dimensions with one candidate are a factor of 1 in every number of keys. They come first and cost no search, which would
/// be quartic in their number.
pub(super) fn decision_order(problem: &Problem) -> Result<Vec<usize>> {
    let dimensions = Coupled::of(problem)?;
    let mut best = dimensions.greedy(None, usize::MAX);
    for &first in &dimensions.open {
        let fewer = best.as_ref().map_or(usize::MAX, |best| best.most_keys);
        best = dimensions.greedy(Some(first), fewer).or(best);
    }
    let open = best.map_or_else(|| dimensions.open.clone(), |best| best.dimensions);
    let decided = (0..dimensions.candidates.len()).filter(|own| !dimensions.open.contains(own));
    Ok(decided.chain(open).collect())
}

/// Order of decision of the dimensions with several candidates.
struct Order {
    dimensions: Vec<usize>,
    /// Largest number of keys after one of its steps.
    most_keys: usize,
}

/// Dimensions, and which of them share a term in the costs under a budget.
struct Coupled {
    /// Number of candidates of every dimension.
    candidates: Vec<usize>,
    /// The dimensions with several candidates.
    open: Vec<usize>,
    /// For every dimension, whether it shares a term with each other one, both with several candidates.
    coupled: Vec<Vec<bool>>,
}

impl Coupled {
    fn of(problem: &Problem) -> Result<Self> {
        let candidates: Vec<usize> =
            problem.choices.iter().map(|choice| choice.candidates.len()).collect();
        let mut coupled = vec![vec![false; candidates.len()]; candidates.len()];
        for (_, function) in problem.functions()? {
            for term in function.terms() {
                let together = term.iter().filter_map(|name| problem.number(name));
                let together: Vec<usize> = together.filter(|&own| candidates[own] != 1).collect();
                for &one in &together {
                    together.iter().for_each(|&other| coupled[one][other] = one != other);
                }
            }
        }
        let open = (0..candidates.len()).filter(|&own| candidates[own] != 1).collect();
        Ok(Self { candidates, open, coupled })
    }

    /// Returns the greedy order, from `first` on if it is given; `None` unless it has fewer than `fewer`
    /// keys at every step.
    fn greedy(&self, first: Option<usize>, fewer: usize) -> Option<Order> {
        let mut undecided = self.open.clone();
        let count = |own: &Vec<bool>| own.iter().filter(|coupled| **coupled).count();
        // For every dimension, the number of undecided ones that it shares a term with.
        let mut open: Vec<usize> = self.coupled.iter().map(count).collect();
        let (mut live, mut dimensions, mut most_keys) = (Vec::new(), Vec::new(), 1);
        while !undecided.is_empty() {
            let keys = |next: usize| self.keys_after(next, &live, &open);
            let greedy = || undecided.iter().copied().min_by_key(|&next| keys(next));
            let next = first.filter(|_| dimensions.is_empty()).or_else(greedy)?;
            most_keys = most_keys.max(keys(next));
            if most_keys >= fewer {
                return None;
            }
            live.push(next);
            undecided.retain(|&other| other != next);
            let left = open.iter_mut().zip(&self.coupled[next]);
            left.for_each(|(open, coupled)| *open -= usize::from(*coupled));
            live.retain(|&decided| open[decided] > 0);
            dimensions.push(next);
        }
        Some(Order { dimensions, most_keys })
    }

    /// Returns the number of keys after `next` is decided: the product of the candidates of those decided
    /// that share a term with an undecided one.
    fn keys_after(&self, next: usize, live: &[usize], open: &[usize]) -> usize {
        let left = |own: usize| open[own] - usize::from(self.coupled[next][own]);
        let decided = live.iter().copied().chain([next]).filter(|&own| left(own) > 0);
        decided.fold(1, |keys: usize, own| keys.saturating_mul(self.candidates[own]))
    }
}

#[cfg(test)]
mod tests;
