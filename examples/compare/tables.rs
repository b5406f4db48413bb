//! The tables: mean and spread of every line over its seeds, and its difference to another line.

use crate::paired::Paired;
use crate::plan::Line;
use crate::row::Row;
use once_for_both::space::Sizes;
use std::collections::BTreeMap;
use std::fmt;

/// Rows of one line, one of every seed.
pub struct Summary<'a> {
    line: &'a Line,
    /// By seed; of several draws the one with the lowest NLL.
    rows: BTreeMap<u64, &'a Row>,
}

/// Mean and standard deviation over seeds.
struct Spread {
    mean: f64,
    /// `None` for a single seed.
    std: Option<f64>,
}

impl<'a> Summary<'a> {
    /// Returns the summary of a line from the rows that were measured; `None` if there are none.
    pub fn of(line: &'a Line, measured: &[&'a Row]) -> Option<Self> {
        let mut rows: BTreeMap<u64, &Row> = BTreeMap::new();
        for &row in measured {
            let best = rows.entry(row.seed).or_insert(row);
            if row.end().nll < best.end().nll {
                *best = row;
            }
        }
        (!rows.is_empty()).then_some(Self { line, rows })
    }

    fn over_seeds(&self, of: impl Fn(&Row) -> f64) -> Spread {
        let values: Vec<f64> = self.rows.values().map(|row| of(row)).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Spread { mean, std: (n > 1.0).then(|| (squares / (n - 1.0)).sqrt()) }
    }

    /// Returns the difference of the NLL to that of another line, on the seeds that both have.
    fn difference(&self, other: &Self) -> Option<Paired> {
        let common = self.rows.iter().filter_map(|(seed, row)| {
            let other = other.rows.get(seed)?;
            Some((row.nll.values().collect(), other.nll.values().collect()))
        });
        Paired::of(&common.collect::<Vec<_>>())
    }

    /// Returns the mean distance of two seeds' sizes, in shares of the dense size, over all heads,
    /// channels and widths.
    fn distance(&self, dense: &Sizes) -> Option<f64> {
        let mut distances = Vec::new();
        let rows: Vec<&&Row> = self.rows.values().collect();
        for (at, left) in rows.iter().enumerate() {
            for right in &rows[at + 1..] {
                for (name, full) in dense {
                    let (left, right) = (left.sizes.get(name)?, right.sizes.get(name)?);
                    let apart = |l: i64, r: i64, full: i64| (l - r).abs() as f64 / full as f64;
                    distances.push(apart(left.channels, right.channels, full.channels));
                    if full.heads > 1 {
                        distances.push(apart(left.heads, right.heads, full.heads));
                    }
                }
            }
        }
        let count = distances.len() as f64;
        (count > 0.0).then(|| distances.iter().sum::<f64>() / count)
    }

    fn start_bias(&self) -> Option<f64> {
        let biases: Option<Vec<f64>> = self.rows.values().map(|row| row.start_bias).collect();
        biases.map(|biases| biases.iter().sum::<f64>() / biases.len() as f64)
    }

    /// NLL and top-1, each with its spread.
    fn quality(&self) -> String {
        let nll = self.over_seeds(|row| row.end().nll).shown(1.0, 4);
        let top1 = self.over_seeds(|row| row.end().top1).shown(100.0, 2);
        format!("{:4} {nll:>16} {top1:>14}", self.rows.len())
    }
}

impl Spread {
    fn shown(&self, unit: f64, digits: usize) -> String {
        let mean = format!("{:.digits$}", unit * self.mean);
        self.std.map_or(mean.clone(), |std| format!("{mean} ± {:.digits$}", unit * std))
    }
}

fn shown_difference(difference: Option<Paired>) -> String {
    match difference {
        Some(Paired { mean, error: Some(error) }) => format!("{mean:+.4} ({error:.4})"),
        Some(Paired { mean, error: None }) => format!("{mean:+.4}"),
        None => "-".into(),
    }
}

fn shown<T: fmt::Display>(value: Option<T>, absent: &str) -> String {
    value.map_or(absent.into(), |value| format!("{value:.3}"))
}

/// Prints a line for every method at every budget that was measured; differences are to the method of the
/// first of all `lines`.
pub fn print_methods(lines: &[Line], summaries: &[Summary], dense: &Sizes) {
    let unchanged = || summaries.iter().filter(|summary| summary.line.change.is_none());
    let Some(first) = lines.first().map(|line| line.method) else { return };
    if unchanged().next().is_none() {
        return;
    }
    println!(
        "\nmethod                   budget runs        NLL ± std    top-1 ± std  NLL − {first:14}    \
         MACs seconds  sizes apart  bias to α"
    );
    for summary in unchanged() {
        let line = summary.line;
        let name = match line.method.draws() {
            true => format!("{} (best of {})", line.method, line.draws()),
            false => line.method.to_string(),
        };
        let reference =
            unchanged().find(|s| s.line.method == first && s.line.budget == line.budget);
        let difference = reference.and_then(|reference| summary.difference(reference));
        println!(
            "{name:24} {:6.2} {}  {:20} {:7.4} {:7.0} {:>12} {:>10}",
            line.budget,
            summary.quality(),
            shown_difference(difference),
            summary.over_seeds(|row| row.macs).mean,
            summary.over_seeds(|row| row.seconds).mean,
            shown(summary.distance(dense), "-"),
            shown(summary.start_bias(), "all equal"),
        );
    }
}

/// Prints the changes of every method at every budget that were measured, with differences to the row without a
/// change, if that was.
pub fn print_ablations(lines: &[Line], summaries: &[Summary]) {
    for Line { method, budget, .. } in lines.iter().filter(|line| line.change.is_none()) {
        let own =
            |summary: &&Summary| summary.line.method == *method && summary.line.budget == *budget;
        let (unchanged, changed): (Vec<&Summary>, Vec<&Summary>) =
            summaries.iter().filter(own).partition(|summary| summary.line.change.is_none());
        if changed.is_empty() {
            continue;
        }
        let unchanged = unchanged.first().copied();
        println!(
            "\n{:34} {:>10} runs        NLL ± std    top-1 ± std  NLL − default",
            format!("{method} at {budget}, option"),
            "value"
        );
        for summary in unchanged.into_iter().chain(changed) {
            let (name, value) = match &summary.line.change {
                Some(change) => (change.name.as_str(), change.value.as_str()),
                None => ("none", "default"),
            };
            let difference = unchanged.and_then(|unchanged| summary.difference(unchanged));
            let difference = shown_difference(difference);
            println!("{name:34} {value:>10} {}  {difference}", summary.quality());
        }
    }
}
