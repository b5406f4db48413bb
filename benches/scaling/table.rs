//! The table of the results.

use crate::counted::Counts;
use crate::{Kinds, Round};
use once_for_both::latency::median;

/// Prints a Markdown table: medians of the rounds, of the ratios with quartiles. The time of a step is that
/// of the slowest rank; the time in calls that of the rank that waits least, as the last to come waits for
/// the transfer alone. What other programs do to a step, the fastest of all rounds has least of.
pub fn print(kinds: &[Kinds], ranks: &[Vec<Vec<Round>>]) {
    println!("\n| step | one alone, ms | all apart, ms | together, ms | alone / together | apart / together | fastest alone / fastest together | waiting in calls, ms | calls | MB |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (at, kind) in kinds.iter().enumerate() {
        let rounds = ranks[0][at].len();
        let over = |of: &dyn Fn(&Round) -> f64, choose: fn(f64, f64) -> f64| -> Vec<f64> {
            let of_rank = |rank: &Vec<Vec<Round>>, round: usize| of(&rank[at][round]);
            let every = |round| ranks.iter().map(move |rank| of_rank(rank, round));
            (0..rounds).map(|round| every(round).reduce(choose).unwrap_or(f64::NAN)).collect()
        };
        let [one, all, group] = [0, 1, 2].map(|who| over(&|round| round.ms[who], f64::max));
        let in_calls = over(&|round| round.counts.ms, f64::min);
        let (alone, apart) = (ratios(&one, &group), ratios(&all, &group));
        let Counts { calls, bytes, .. } = ranks[0][at][0].counts;
        let fastest = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
        let undisturbed = fastest(&one) / fastest(&group);
        let [one, all, group, in_calls] = [one, all, group, in_calls].map(median);
        println!(
            "| {} | {one:.0} | {all:.0} | {group:.0} | {alone} | {apart} | {undisturbed:.3} | {in_calls:.1} | {calls} | {:.1} |",
            kind.name,
            bytes as f64 / 1e6
        );
    }
}

/// Returns median and quartiles of the ratios within each round.
fn ratios(numerators: &[f64], denominators: &[f64]) -> String {
    let mut all: Vec<f64> = numerators.iter().zip(denominators).map(|(l, r)| l / r).collect();
    all.sort_by(f64::total_cmp);
    let quartile = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
    format!("{:.3} ({:.3} to {:.3})", median(all.clone()), quartile(0.25), quartile(0.75))
}
