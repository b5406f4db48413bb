//! Results of one run: a row of the file of `--json`.

use crate::images::ImageNlls;
use crate::latency::RowLatency;
use crate::plan::Run;
use once_for_both::pipeline::Judgement;
use once_for_both::space::Sizes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

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
    /// Number of the draw of random sizes; 0 for every other method.
    pub draw: u64,
    /// Share of the dense MACs reached.
    pub macs: f64,
    /// Share of the dense latency, with `--latency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<RowLatency>,
    /// Size of every dimension.
    pub sizes: Sizes,
    /// Quality so many steps after the decision of the sizes; the last point is the end.
    pub curve: Vec<Point>,
    /// Wall time of search, fine-tuning and evaluations.
    pub seconds: f64,
    /// Processor time of them, over all threads.
    pub cpu_seconds: f64,
    /// Wall time of the search steps alone.
    pub search_seconds: f64,
    /// Mean time of a search step over that of a plain training step, if timed.
    pub step_ratio: Option<f64>,
    /// Largest change of a logit by a prune step, as a share of the largest logit.
    pub jump: f64,
    /// Mean standard score of the initial α of the chosen candidates, over all dimensions: 0 if the
    /// initial α has no influence. `None` where all started equal.
    pub start_bias: Option<f64>,
    /// Options, components, data and dense network; null in rows without.
    #[serde(default)]
    pub terms: Value,
    /// NLL of every image at the end.
    pub nll: ImageNlls,
}

impl Point {
    pub fn new(after: u64, judged: &Judgement) -> Self {
        Self { after, nll: judged.mean_nll(), top1: judged.top1() }
    }
}

impl Row {
    pub const HEADER: &'static str =
        "method             budget seed draw    MACs seconds   step   jump  \
         sizes: embedding [heads × channels, hidden …]   + steps: NLL / top-1 %";

    /// Returns the row of a run without its results.
    pub fn of(run: &Run) -> Self {
        let (method, draw) = (run.method.to_string(), run.draw);
        Self { method, budget: run.budget, seed: run.seed, draw, ..Self::default() }
    }

    /// Returns whether the row is of this run, on these terms.
    pub fn is(&self, run: &Run, terms: &Value) -> bool {
        let own = (self.method.as_str(), self.budget, self.seed, self.draw);
        let method = run.method.to_string();
        own == (method.as_str(), run.budget, run.seed, run.draw) && self.terms == *terms
    }

    /// Returns NLL and top-1 at the end.
    pub fn end(&self) -> Point {
        let none = Point { after: 0, nll: f64::NAN, top1: f64::NAN };
        self.curve.last().copied().unwrap_or(none)
    }

    /// NLL, top-1 and time in words.
    pub fn result(&self) -> String {
        let Point { nll, top1, .. } = self.end();
        format!("NLL {nll:.4}, top-1 {:.2} %, {:.0} s", 100.0 * top1, self.seconds)
    }

    /// Sizes in short: the embedding, then of every block heads × channels and hidden width.
    fn short_sizes(&self) -> String {
        let blocks = self.sizes.iter().filter_map(|(name, size)| {
            let short = match name.rsplit_once('.')?.1 {
                "attn" => format!("{} × {}", size.heads, size.channels),
                _ => size.channels.to_string(),
            };
            Some(short)
        });
        let embedding = self.sizes.get("embed").map_or(0, |size| size.channels);
        format!("{embedding} [{}]", blocks.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { method, budget, seed, draw, macs, seconds, jump, .. } = self;
        let step = self.step_ratio.map_or("-".into(), |ratio| format!("{ratio:.2}x"));
        write!(
            formatter,
            "{method:18} {budget:6.2} {seed:4} {draw:4} {macs:7.4} {seconds:7.0} {step:>6} \
             {jump:6.3}  {}  ",
            self.short_sizes()
        )?;
        for Point { after, nll, top1 } in &self.curve {
            write!(formatter, " +{after}: {nll:.4} / {:.2}", 100.0 * top1)?;
        }
        if let Some(RowLatency { predicted, measured, standard_error }) = &self.latency {
            write!(
                formatter,
                "  latency {measured:.3} ± {standard_error:.3}, predicted {predicted:.3}"
            )?;
        }
        Ok(())
    }
}
