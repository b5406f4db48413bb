//! Rows to measure, and the lines of the tables that they belong to.

use crate::change::Change;
use crate::methods::Named;
use crate::options::Options;
use crate::protocol::Protocol;
use crate::AnyError;
use once_for_both::search::SearchOptions;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Everything that decides a row, besides the data and the dense network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub method: Named,
    /// Share of the dense MACs, or of the dense latency (`--limit`).
    pub budget: f64,
    pub seed: u64,
    /// Number of the draw of random sizes.
    pub draw: u64,
    /// The option that is changed, for messages; the protocol has its value.
    change: Option<Change>,
    pub protocol: Protocol,
}

/// A line of a table: a method at a budget, with its seeds and draws.
pub struct Line {
    pub method: Named,
    pub budget: f64,
    /// The option that is changed alone, if one is.
    pub change: Option<Change>,
    pub runs: Vec<Run>,
}

impl Run {
    /// Returns the options of the method.
    pub fn search_options(&self) -> Result<SearchOptions, AnyError> {
        self.method.options(&self.protocol, self.seed).map_err(|error| match &self.change {
            Some(change) => format!("--ablate {change}: {error}").into(),
            None => error,
        })
    }

    /// Returns whether method, budget, seed and draw are the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let key = |run: &Self| (run.method, run.budget, run.seed, run.draw);
        key(self) == key(other)
    }

    /// Number of the order of the data.
    pub fn order(&self) -> u64 {
        self.protocol.order.unwrap_or(self.seed)
    }
}

impl Line {
    /// Number of draws of every seed.
    pub fn draws(&self) -> u64 {
        self.runs.iter().map(|run| run.draw + 1).max().unwrap_or(1)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}, budget {}, seed {}", self.method, self.budget, self.seed)?;
        if self.method.draws() {
            write!(formatter, ", draw {}", self.draw)?;
        }
        self.change.iter().try_for_each(|change| write!(formatter, ", {change}"))
    }
}

/// Returns all lines, in the order of the tables: budgets, methods, changes. The options of every
/// run are checked.
pub fn lines(options: &Options, protocol: &Protocol) -> Result<Vec<Line>, AnyError> {
    let methods = options.methods()?;
    let mut lines = Vec::new();
    for &budget in &options.budgets {
        for &method in &methods {
            for change in options.changes() {
                let draws = if method.draws() { options.draws } else { 1 };
                let protocol = match &change {
                    Some(change) => change.apply(protocol)?,
                    None => protocol.clone(),
                };
                let run = |(seed, draw)| {
                    let (change, protocol) = (change.clone(), protocol.clone());
                    Run { method, budget, seed, draw, change, protocol }
                };
                let numbers = options.seeds().flat_map(|s| (0..draws).map(move |d| (s, d)));
                let runs: Vec<Run> = numbers.map(run).collect();
                for run in &runs {
                    run.search_options()?;
                }
                lines.push(Line { method, budget, change, runs });
            }
        }
    }
    Ok(lines)
}
