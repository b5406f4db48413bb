//! Results of one run: a row of the table.

use crate::methods::Named;
use crate::trial::AnyError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// NLL and top-1 so many steps after the decision of the sizes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub after: u64,
    pub nll: f64,
    pub top1: f64,
}

/// Results of one method at one budget and seed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Row {
    pub method: String,
    pub budget: f64,
    pub seed: u64,
    /// Share of the dense MACs reached.
    pub macs: f64,
    pub top1: f64,
    /// NLL and top-1 so many steps after the decision of the sizes; the last point is the end.
    #[serde(default)]
    pub curve: Vec<Point>,
    /// Top-1 at the end of the search, before fine-tuning.
    pub top1_searched: f64,
    pub search_seconds: f64,
    /// Processor time of search and fine-tuning, over all threads, with the evaluations.
    pub cpu_seconds: f64,
    /// Mean time of a search step over that of a plain training step, if timed.
    pub step_ratio: Option<f64>,
    /// Largest change of a logit by a prune step, as a share of the largest logit.
    pub jump: f64,
    /// Mean standard score of the initial α of the chosen candidates, over all dimensions: 0 if the
    /// initial α has no influence. `None` where all started equal.
    pub start_bias: Option<f64>,
    pub embed_dim: i64,
    /// Heads, channels of a head, hidden width of every block.
    pub blocks: Vec<[i64; 3]>,
    /// Options, components, data and dense network; null in rows without.
    #[serde(default)]
    pub terms: Value,
}

impl Row {
    pub const HEADER: &'static str = "method             budget seed   MACs  top-1 searched  \
        cpu s   step   jump  sizes";

    /// Returns a row without results.
    pub fn new(method: Named, budget: f64, seed: u64) -> Self {
        Self { method: method.name().into(), budget, seed, ..Self::default() }
    }

    /// Returns whether the row is of this run, on these terms.
    pub fn is(&self, method: Named, budget: f64, seed: u64, terms: &Value) -> bool {
        let named = self.method == method.name() && self.budget == budget && self.seed == seed;
        named && self.terms == *terms
    }

    /// Embedding, then heads, channels of a head and hidden width of every block.
    pub fn sizes(&self) -> impl Iterator<Item = i64> + '_ {
        std::iter::once(self.embed_dim).chain(self.blocks.iter().flatten().copied())
    }

    /// The rows of the file of `--json`, which is created if it is not there. A file with other
    /// lines, or one that cannot be written, is refused.
    pub fn read(path: &Path) -> Result<Vec<Self>, AnyError> {
        let refused = |reason: String| format!("--json {}: {reason}", path.display());
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.map_err(|error| refused(format!("cannot be written: {error}")))?;
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let row = |(at, line)| {
            serde_json::from_str(line).map_err(|error| {
                let reason = format!("line {}: got {error}, expected a row of compare", at + 1);
                refused(reason + "; give another file").into()
            })
        };
        text.lines().enumerate().map(row).collect()
    }

    /// Appends the row to a file of JSON lines; a row that cannot be written whole is removed again.
    pub fn append(&self, path: &Path) -> Result<(), AnyError> {
        let io = |error| format!("--json {}: cannot be written: {error}", path.display());
        let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let line = serde_json::to_string(self)? + "\n";
        if let Err(error) = file.write_all(line.as_bytes()) {
            file.set_len(length).map_err(io)?;
            return Err(io(error).into());
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { method, budget, seed, macs, top1, top1_searched, .. } = self;
        let (top1, searched) = (100.0 * top1, 100.0 * top1_searched);
        write!(
            formatter,
            "{method:18} {budget:6.2} {seed:4} {macs:6.4} {top1:6.2} {searched:8.2} "
        )?;
        let Self { cpu_seconds, jump, embed_dim, blocks, .. } = self;
        let step = self.step_ratio.map_or("    -".into(), |ratio| format!("{ratio:4.2}x"));
        write!(formatter, "{cpu_seconds:6.0} {step:>6} {jump:6.3}  {embed_dim} {blocks:?}  ")?;
        for Point { after, nll, top1 } in &self.curve {
            write!(formatter, " +{after}: {nll:.4} / {:.2}", 100.0 * top1)?;
        }
        Ok(())
    }
}
