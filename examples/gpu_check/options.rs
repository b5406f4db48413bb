//! Command line.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// A section of the file.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum Part {
    Tests,
    Gates,
    Steps,
    Latency,
    Operators,
    Loader,
}

impl Part {
    const ALL: [Self; 6] =
        [Self::Tests, Self::Gates, Self::Steps, Self::Latency, Self::Operators, Self::Loader];
}

/// Measures on a CUDA card and writes one Markdown file; `make gpu-check` gives the commands.
#[derive(Parser)]
pub struct Options {
    /// The file.
    #[arg(long, default_value = "target/gpu-check.md")]
    pub out: PathBuf,
    /// cuda, cuda:N, or cpu.
    #[arg(long, default_value = "cuda")]
    pub device: String,
    /// Images of a training step.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(i64).range(1..=65_536))]
    pub batch: i64,
    /// A tiny network, and each measurement once: shows that the program works, and nothing else.
    #[arg(long)]
    pub quick: bool,
    /// Shell command of the tests.
    #[arg(long)]
    pub tests: Option<String>,
    /// Shell command of the bench `gates`.
    #[arg(long)]
    pub gates: Option<String>,
    /// Shell command of the bench `loader`, part `waiting`.
    #[arg(long)]
    pub loader: Option<String>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    pub parts: Vec<Part>,
    /// Seconds after which a command or a row is ended, as failed.
    #[arg(long, default_value_t = 360, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub limit: u64,
    /// What a process for one row measures, as JSON.
    #[arg(long, hide = true)]
    pub task: Option<String>,
}

impl Options {
    /// Time limit of a command or a row.
    pub fn time_limit(&self) -> Duration {
        Duration::from_secs(self.limit)
    }
}
