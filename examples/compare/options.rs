//! The command line.

use crate::change::{Ablation, Change};
use crate::family::Network;
use crate::methods::Named;
use crate::protocol::Protocol;
use clap::{Args, Parser, ValueEnum};
use once_for_both::pipeline::Feed;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Compares searches on a ViT of 96 channels, 4 blocks, 4 heads and 4 × 4 patches, on a small Swin, or on the network of
/// --weights.
#[derive(Debug, Clone, Parser)]
#[command(name = "compare")]
pub struct Options {
    /// Methods, in order; "all" for every one. Differences are to the first.
    #[arg(long, value_delimiter = ',', default_value = "ours")]
    methods: Vec<String>,

    /// Budgets as shares of the dense MACs, or latency (--limit).
    #[arg(long, value_delimiter = ',', default_value = "0.5")]
    pub budgets: Vec<f64>,

    /// Number of seeds of scores, α, masked tokens and the order of the data.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,

    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,

    /// Draws of the method random-sizes; of every seed the one with the lowest NLL counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub draws: u64,

    /// Changes one option alone, to one value after the other: --ablate budget.weight=0.2,1,5.
    /// Besides the options of --set: loss_scale, search_steps (fine-tuning keeps its length), order
    /// (of the data), depth (true or false), least_hidden (a share), teacher (off, or a weight). Repeatable.
    #[arg(long = "ablate", value_name = "NAME=VALUES")]
    pub ablations: Vec<Ablation>,

    /// Rows that are measured at the same time, each in a process of one thread. Default: one after
    /// the other, with all threads.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub jobs: Option<u64>,

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

    /// Weight of the distillation from the dense network, for every method but no-teacher and
    /// scratch; 0 for none. Default: that of the crate.
    #[arg(long)]
    distil: Option<f64>,

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

    /// Attentions and MLPs may be removed.
    #[arg(long)]
    depth: bool,

    /// Least width of a hidden layer, as a share of its own. Default: the least candidate.
    #[arg(long)]
    least_hidden: Option<f64>,

    /// Compute in bf16.
    #[arg(long)]
    bf16: bool,

    #[command(flatten)]
    pub source: Source,

    /// Network that is trained where no --weights are given.
    #[arg(long, value_enum, default_value = "vit", conflicts_with = "weights")]
    pub network: Network,

    /// Folder that stores the dense network for the next comparison.
    #[arg(long, conflicts_with = "weights")]
    pub dense: Option<PathBuf>,

    /// File that one object per row is appended to.
    #[arg(long)]
    pub json: Option<PathBuf>,

    /// Measures one row in a process of its own: a task as JSON, from the process of --jobs.
    #[arg(long, hide = true)]
    pub task: Option<String>,
}

/// What budgets limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Limit {
    /// The dense network's latency.
    Latency,
    /// The dense network's MACs.
    Macs,
}

/// Where images and dense network are.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct Source {
    /// Folder of IDX files under MNIST's names. Default: the built-in part of Fashion-MNIST.
    #[arg(long)]
    pub data: Option<PathBuf>,

    /// Number of training images, from the first on. Default: all.
    #[arg(long)]
    pub images: Option<i64>,

    /// Number of training images that are held out and evaluated on instead of the test images, for
    /// tuning.
    #[arg(long, default_value_t = 0)]
    pub validate: i64,

    /// Dense network to start from: the folder of a run that `deit_s train` made one in, or an artifact. Default: one is
    /// trained.
    #[arg(long, value_name = "FOLDER")]
    pub weights: Option<PathBuf>,

    /// Queries and keys have a width of their own, apart from values.
    #[arg(long)]
    pub qk_v_apart: bool,

    /// Latency model; where there is no such file, the model is measured before the rows, and written. Rows have a
    /// `latency`, predicted and measured.
    #[arg(long, value_name = "FILE")]
    pub latency: Option<PathBuf>,

    /// What the budgets are shares of, where there is a --latency.
    #[arg(long, value_enum, default_value = "latency", requires = "latency")]
    pub limit: Limit,

    /// Images of a batch whose latency is measured.
    #[arg(long, default_value_t = 1, requires = "latency",
          value_parser = clap::value_parser!(i64).range(1..))]
    pub latency_batch: i64,

    /// cpu, cuda, cuda:N, or auto.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

impl Options {
    /// Returns the methods, in order.
    pub fn methods(&self) -> Result<Vec<Named>, String> {
        Named::parse_all(&self.methods)
    }

    /// Returns the seeds, in order.
    pub fn seeds(&self) -> impl Iterator<Item = u64> + Clone {
        self.first_seed..self.first_seed.saturating_add(self.seeds)
    }

    /// Returns no change and the changes of `--ablate`, in order.
    pub fn changes(&self) -> impl Iterator<Item = Option<Change>> + '_ {
        let changes = self.ablations.iter().flat_map(Ablation::changes).map(Some);
        std::iter::once(None).chain(changes)
    }

    /// Returns the protocol of all rows without changes; epochs are counted in steps of `feed`.
    pub fn protocol(&self, feed: &Feed) -> Result<Protocol, String> {
        let steps = |epochs: u64| epochs * (feed.train_images() / self.batch) as u64;
        let total = self.epochs.map_or(self.steps, steps);
        if !(0.0..=1.0).contains(&self.search) {
            return Err(format!("--search: got {}, expected a share in [0, 1]", self.search));
        }
        let search_steps = (total as f64 * self.search).round() as u64;
        Protocol {
            search_steps,
            finetune_steps: total - search_steps,
            dense_steps: self.dense_epochs.map_or(self.dense_steps, steps),
            batch: self.batch,
            lr: self.lr,
            dense_lr: self.dense_lr,
            distil: self.distil,
            fade_out: self.fade_out,
            settings: self.settings.clone(),
            curve: self.curve.clone(),
            plain_interval: self.plain_interval,
            bf16: self.bf16,
            loss_scale: 1.0,
            depth: self.depth,
            least_hidden: self.least_hidden,
            order: None,
        }
        .checked()
    }
}
