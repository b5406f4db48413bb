//! Methods on equal terms: the same dense network, data, order of batches and schedule.
//!
//! ```sh
//! cargo run --release --example compare -- --methods ours,two-stage,paper --budgets 0.5 --seeds 3
//! ```
//!
//! Prints a table; `--json FILE` appends one object a run.

mod data;
mod methods;
mod summary;
mod trial;

use clap::Parser;
use methods::Named;
use once_for_both::device;
use once_for_both::search::Precision;
use std::path::PathBuf;
use summary::Summary;
use trial::{Bench, Row};

/// Compares searches on a ViT of 96 channels, 4 blocks, 4 heads and 4 × 4 patches.
#[derive(Debug, Clone, Parser)]
#[command(name = "compare")]
pub struct Options {
    /// Methods, in order; "all" for every one.
    #[arg(long, value_delimiter = ',', default_value = "ours")]
    methods: Vec<String>,

    /// Budgets as shares of the dense MACs.
    #[arg(long, value_delimiter = ',', default_value = "0.5")]
    budgets: Vec<f64>,

    /// Seeds of scores, α and hidden tokens: 0, 1, ….
    #[arg(long, default_value_t = 1)]
    seeds: u64,

    /// Steps of dense training.
    #[arg(long, default_value_t = 500)]
    dense_steps: u64,

    /// Steps of search and fine-tuning.
    #[arg(long, default_value_t = 300)]
    steps: u64,

    /// Share of the steps that search.
    #[arg(long, default_value_t = 0.6)]
    search: f64,

    /// Images of a step.
    #[arg(long, default_value_t = 100)]
    batch: i64,

    /// Highest learning rate of dense training.
    #[arg(long, default_value_t = 1e-3)]
    dense_lr: f64,

    /// Highest learning rate of search and fine-tuning.
    #[arg(long, default_value_t = 5e-4)]
    lr: f64,

    /// Steps of a landing; the method's own if not given.
    #[arg(long)]
    landing: Option<u64>,

    /// Compute in bf16.
    #[arg(long)]
    bf16: bool,

    /// Folder with IDX files under MNIST's names; the built-in part of Fashion-MNIST if not given.
    #[arg(long)]
    data: Option<PathBuf>,

    /// Training images to use, from the first; all if not given.
    #[arg(long)]
    images: Option<i64>,

    /// Judge by so many training images that are held out, not by the test images: for tuning.
    #[arg(long, default_value_t = 0)]
    validate: i64,

    /// Folder that keeps the dense network for the next comparison.
    #[arg(long)]
    dense: Option<PathBuf>,

    /// File that one object a run is appended to.
    #[arg(long)]
    json: Option<PathBuf>,

    /// cpu, cuda, cuda:N, or auto.
    #[arg(long, default_value = "auto")]
    device: String,
}

impl Options {
    fn precision(&self) -> Precision {
        if self.bf16 {
            Precision::Bf16
        } else {
            Precision::Full
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let methods = Named::parse_all(&options.methods)?;
    let device = device::parse(&options.device)?;
    let bench = Bench::new(&options, device)?;
    println!("dense: top-1 {:.2} %", 100.0 * bench.dense_top1);
    println!("{}", Row::HEADER);
    let mut summaries = Vec::new();
    for &budget in &options.budgets {
        for &method in &methods {
            let mut rows = Vec::new();
            for seed in 0..options.seeds {
                let row = bench.run(method, budget, seed)?;
                println!("{row}");
                if let Some(path) = &options.json {
                    row.append(path)?;
                }
                rows.push(row);
            }
            summaries.extend(Summary::of(&rows, &bench.dense_sizes()));
        }
    }
    println!("\n{}", Summary::HEADER);
    summaries.iter().for_each(|summary| println!("{summary}"));
    Ok(())
}
