//! Compares methods on the same dense network, data, order of batches and schedule.
//!
//! ```sh
//! cargo run --release --features pipeline --example compare -- --methods ours,two-stage,paper --budgets 0.5 --seeds 3
//! ```
//!
//! Prints a table. `--json FILE` appends one object per run; a run that the file has on the same
//! terms (options, components, data and dense network) is not repeated.

mod data;
mod methods;
mod row;
mod scratch;
mod summary;
mod terms;
mod trial;

use clap::Parser;
use methods::Named;
use once_for_both::device;
use once_for_both::precision::Precision;
use row::Row;
use std::path::PathBuf;
use std::process::ExitCode;
use summary::Summary;
use trial::{AnyError, Bench};

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

    /// Number of seeds of scores, α, masked tokens and the order of the data.
    #[arg(long, default_value_t = 1)]
    seeds: u64,

    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,

    /// Steps of dense training.
    #[arg(long, default_value_t = 500)]
    dense_steps: u64,

    /// Steps of search and fine-tuning.
    #[arg(long, default_value_t = 300)]
    steps: u64,

    /// Epochs of dense training, instead of --dense-steps.
    #[arg(long, conflicts_with = "dense_steps")]
    dense_epochs: Option<u64>,

    /// Epochs of search and fine-tuning, instead of --steps.
    #[arg(long, conflicts_with = "steps")]
    epochs: Option<u64>,

    /// Share of the steps that search.
    #[arg(long, default_value_t = 0.6)]
    search: f64,

    /// Steps after the sizes are decided at which NLL and top-1 are measured; the end is added.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    curve: Vec<u64>,

    /// Weight of soft distillation (temperature 2) from the dense network, for every method.
    #[arg(long, default_value_t = 0.0)]
    distil: f64,

    /// Images of an optimiser step.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    batch: i64,

    /// Peak learning rate of dense training.
    #[arg(long, default_value_t = 1e-3)]
    dense_lr: f64,

    /// Peak learning rate of search and fine-tuning.
    #[arg(long, default_value_t = 5e-4)]
    lr: f64,

    /// Steps of a gate fade-out. Default: that of the method.
    #[arg(long)]
    fade_out: Option<u64>,

    /// Any option of the search: --set optimiser.alpha_rate=0.05. Repeatable.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,

    /// Times a plain training step after every so many search steps; 0 for none.
    #[arg(long, default_value_t = 10)]
    plain_interval: u64,

    /// Compute in bf16.
    #[arg(long)]
    bf16: bool,

    /// Folder of IDX files under MNIST's names. Default: the built-in part of Fashion-MNIST.
    #[arg(long)]
    data: Option<PathBuf>,

    /// Number of training images, from the first on. Default: all.
    #[arg(long)]
    images: Option<i64>,

    /// Number of training images that are held out and evaluated on instead of the test images, for
    /// tuning.
    #[arg(long, default_value_t = 0)]
    validate: i64,

    /// Dense network to start from, as `deit_s train` saves it. Default: one is trained.
    #[arg(long, value_name = "FOLDER")]
    weights: Option<PathBuf>,

    /// Folder that stores the dense network for the next comparison.
    #[arg(long, conflicts_with = "weights")]
    dense: Option<PathBuf>,

    /// File that one object per run is appended to.
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
            Precision::F32
        }
    }

    /// Converts epochs to steps of a data set with so many images.
    fn in_steps(mut self, images: i64) -> Self {
        let steps = |epochs: u64| epochs * (images / self.batch) as u64;
        self.dense_steps = self.dense_epochs.map_or(self.dense_steps, steps);
        self.steps = self.epochs.map_or(self.steps, steps);
        self
    }
}

fn main() -> ExitCode {
    let Err(error) = execute(Options::parse()) else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        eprintln!("  because: {inner}");
        cause = inner.source();
    }
    ExitCode::FAILURE
}

fn execute(options: Options) -> Result<(), AnyError> {
    let methods = Named::parse_all(&options.methods)?;
    let known = options.json.as_deref().map_or(Ok(vec![]), Row::read)?;
    let device = device::parse(&options.device)?;
    let feed = data::open(&options, device)?;
    let options = options.in_steps(feed.train_images());
    let bench = Bench::new(&options, feed, device)?;
    println!("dense: top-1 {:.2} %", 100.0 * bench.dense_top1);
    println!("{}", Row::HEADER);
    let mut summaries = Vec::new();
    for &budget in &options.budgets {
        for &method in &methods {
            let mut rows = Vec::new();
            for seed in options.first_seed..options.first_seed + options.seeds {
                rows.push(one(&bench, &known, method, budget, seed)?);
            }
            summaries.extend(Summary::of(&rows, &bench.dense_sizes()));
        }
    }
    println!("\n{}", Summary::HEADER);
    summaries.iter().for_each(|summary| println!("{summary}"));
    Ok(())
}

/// Returns the row of the file on the same terms, or measures one and appends it.
fn one(
    bench: &Bench,
    known: &[Row],
    method: Named,
    budget: f64,
    seed: u64,
) -> Result<Row, AnyError> {
    let terms = bench.terms(method, seed)?;
    if let Some(row) = known.iter().find(|row| row.is(method, budget, seed, &terms)) {
        println!("{row}");
        return Ok(row.clone());
    }
    let row = Row { terms, ..bench.run(method, budget, seed)? };
    println!("{row}");
    bench.options.json.as_ref().map_or(Ok(()), |path| row.append(path))?;
    Ok(row)
}
