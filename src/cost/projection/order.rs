//! The order in which projection decides the dimensions.

use super::problem::Problem;
use crate::Result;
use std::collections::BTreeSet;

/// Returns the indices of the dimensions in the order of decision: the next is the one that leaves the
/// fewest keys; of equals, the one declared first.
pub(super) fn decision_order(problem: &Problem) -> Result<Vec<usize>> {
    let neighbours = neighbours(problem)?;
    let mut left: BTreeSet<usize> = (0..neighbours.len()).collect();
    let mut live: BTreeSet<usize> = BTreeSet::new();
    let mut order = Vec::with_capacity(neighbours.len());
    while !left.is_empty() {
        let live_after = |next: usize| -> BTreeSet<usize> {
            let decided = live.iter().copied().chain([next]);
            let open = |at: &usize| neighbours[*at].iter().any(|o| *o != next && left.contains(o));
            decided.filter(open).collect()
        };
        let combinations = |next: &usize| -> usize {
            let options =
                live_after(*next).into_iter().map(|at| problem.choices[at].candidates.len());
            options.fold(1, usize::saturating_mul)
        };
        let Some(next) = left.iter().copied().min_by_key(combinations) else { break };
        live = live_after(next);
        left.remove(&next);
        order.push(next);
    }
    Ok(order)
}

/// Returns for every dimension those that it shares a term with, in the costs under a budget.
fn neighbours(problem: &Problem) -> Result<Vec<BTreeSet<usize>>> {
    let mut neighbours = vec![BTreeSet::new(); problem.choices.len()];
    for (_, function) in problem.functions()? {
        for term in function.terms() {
            let numbers = term.iter().filter_map(|name| problem.number(name));
            let together: BTreeSet<usize> = numbers.collect();
            for &at in &together {
                neighbours[at].extend(together.iter().filter(|&&other| other != at));
            }
        }
    }
    Ok(neighbours)
}
