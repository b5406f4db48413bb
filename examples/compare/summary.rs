//! Mean and spread of one method over its seeds.

use crate::row::Row;
use std::fmt;

/// The runs of one method at one budget.
pub struct Summary {
    method: String,
    budget: f64,
    runs: usize,
    mean: f64,
    std: f64,
    /// Share of the dense MACs reached.
    macs: f64,
    cpu_seconds: f64,
    /// Mean distance of two runs' sizes, in shares of the dense size, over all dimensions.
    distance: f64,
    start_bias: Option<f64>,
}

impl Summary {
    pub const HEADER: &'static str =
        "method             budget runs  top-1 ± std    MACs   cpu s  \
         sizes apart   bias to the initial α";

    /// Returns the summary of the rows of one method and budget; `dense` has the sizes of the dense
    /// network.
    pub fn of(rows: &[Row], dense: &[i64]) -> Option<Self> {
        let first = rows.first()?;
        let runs = rows.len();
        let mean_of = |of: fn(&Row) -> f64| rows.iter().map(of).sum::<f64>() / runs as f64;
        let mean = mean_of(|row| row.top1);
        let squares: f64 = rows.iter().map(|row| (row.top1 - mean).powi(2)).sum();
        let mut distances = Vec::new();
        for (at, left) in rows.iter().enumerate() {
            for right in &rows[at + 1..] {
                let apart = left.sizes().zip(right.sizes()).zip(dense);
                distances.extend(apart.map(|((l, r), &d)| (l - r).abs() as f64 / d as f64));
            }
        }
        let biases: Option<Vec<f64>> = rows.iter().map(|row| row.start_bias).collect();
        Some(Self {
            method: first.method.clone(),
            budget: first.budget,
            runs,
            mean,
            macs: mean_of(|row| row.macs),
            cpu_seconds: mean_of(|row| row.cpu_seconds),
            std: (squares / (runs.max(2) - 1) as f64).sqrt(),
            distance: distances.iter().fold(0.0, |sum, d| sum + d) / distances.len().max(1) as f64,
            start_bias: biases.map(|biases| biases.iter().sum::<f64>() / runs as f64),
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { method, budget, runs, mean, std, macs, cpu_seconds, distance, .. } = self;
        let (mean, std) = (100.0 * mean, 100.0 * std);
        write!(
            formatter,
            "{method:18} {budget:6.2} {runs:4} {mean:6.2} ± {std:4.2} {macs:7.3} {cpu_seconds:7.0} {distance:12.3}  "
        )?;
        match self.start_bias {
            Some(bias) => write!(formatter, "{bias:12.2}"),
            None => write!(formatter, "     all equal"),
        }
    }
}
