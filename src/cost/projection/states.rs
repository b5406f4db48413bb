//! Partial choices, and which of them are discarded.

use super::problem::Costs;
use std::cmp::Ordering;

/// Partial choice: an option for every dimension decided so far.
pub(super) struct State {
    /// Cost of the terms that are complete.
    pub(super) cost: Costs,
    /// Σ ln p.
    pub(super) value: f64,
    /// Number of the key: the options that later terms still multiply.
    pub(super) key: u32,
    /// Index of the partial choice without the last dimension.
    pub(super) parent: u32,
    /// Option of the last dimension.
    pub(super) option: u32,
}

pub(super) fn sum(left: Costs, right: Costs) -> Costs {
    std::array::from_fn(|at| left[at] + right[at])
}

/// Sorts by key and cost, and keeps the most probable partial choice of each key and cost.
pub(super) fn merge(states: &mut Vec<State>) {
    let cost = |left: &Costs, right: &Costs| {
        let mut orders = left.iter().zip(right).map(|(left, right)| left.total_cmp(right));
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    states.sort_by(|left, right| {
        let same = left.key.cmp(&right.key).then_with(|| cost(&left.cost, &right.cost));
        same.then_with(|| right.value.total_cmp(&left.value))
    });
    states.dedup_by(|later, first| later.key == first.key && later.cost == first.cost);
}

/// If there are more than `most`, keeps of every run of neighbours in cost the most probable, and
/// the cheapest of every key, so that a choice within the budgets remains. Returns whether any was
/// discarded.
pub(super) fn thin(states: &mut Vec<State>, most: usize) -> bool {
    if states.len() <= most {
        return false;
    }
    let run = states.len().div_ceil(most);
    let mut kept = vec![false; states.len()];
    let mut start = 0;
    for group in states.chunk_by(|left, right| left.key == right.key) {
        for metric in 0..Costs::default().len() {
            let cost = |at: &usize| group[*at].cost[metric];
            let cheapest = (0..group.len()).min_by(|l, r| cost(l).total_cmp(&cost(r)));
            cheapest.into_iter().for_each(|at| kept[start + at] = true);
        }
        for (number, neighbours) in group.chunks(run).enumerate() {
            let value = |at: &usize| neighbours[*at].value;
            let best = (0..neighbours.len()).max_by(|l, r| value(l).total_cmp(&value(r)));
            best.into_iter().for_each(|at| kept[start + number * run + at] = true);
        }
        start += group.len();
    }
    let mut flags = kept.into_iter();
    states.retain(|_| flags.next().unwrap_or(true));
    true
}
