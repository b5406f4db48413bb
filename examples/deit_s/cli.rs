//! The command line.

use crate::preset::Preset;
use clap::{Args, Parser, Subcommand, ValueEnum};
use once_for_both::pipeline::{self, Flags, Request};
use once_for_both::subnet::Precision;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Makes a Vision Transformer smaller: trains it, searches the units to keep under a budget,
/// extracts, verifies and saves the subnet, and evaluates what was saved.
///
/// Without a command it does all of that. Each command continues from the files in the run folder:
/// `train`, `search` and `finetune` with the same --out are the whole run in parts, with the
/// options that the first of them was given.
#[derive(Debug, Parser)]
#[command(name = "deit_s", version, after_help = EXAMPLES)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub run: RunOptions,
}

const EXAMPLES: &str = "Examples:
  deit_s                                        the demo: DeiT-S on built-in images, on a CPU
  deit_s --preset fashion-mnist --data FOLDER   a small ViT, all of Fashion-MNIST
  deit_s --preset swin                          a small Swin on built-in images
  deit_s --preset swin-t --data /data/imagenet --weights swin_tiny_patch4_window7_224.safetensors
  deit_s search --preset imagenet --data /data/imagenet --weights deit_small.pth \\
         --budget 1.3G --params 8M --out runs/half
  deit_s --resume --out runs/half               resume an interrupted run with its options
  deit_s finetune --out runs/half               run the next stage with the run's options
  deit_s eval --weights runs/half
  deit_s forecast --preset imagenet --data /data/imagenet --weights deit_small.pth
                                                what 0.7, 0.5 and 0.3 of its MACs will cost
  deit_s export --weights runs/half --format onnx --precision f16 --out half
  deit_s inspect deit_small.pth
  deit_s inspect hub:timm/deit_small_patch16_224.fb_in1k      weights by their name (feature hub)

RUN/config.toml has the options of a run; --config takes it. See docs/guide.md.";

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Train the dense network, from --weights if they are given.
    Train,
    /// Search a trained network (the network of `train` in --out, or --weights); save the subnet.
    Search,
    /// Fine-tune a subnet (that of `search` in --out, else --weights) and save it.
    Finetune,
    /// Print the top-1 of a network (--weights) on the test images.
    Eval,
    /// Print what budgets will cost: measure how much the loss of a trained network (--weights) rises
    /// as each of its dimensions is pruned, without training. Of a run folder, its dense network.
    ///
    /// With --out, sensitivity.json is written into that folder, and a run in it shows it in its report.
    Forecast(ForecastOptions),
    /// Measure how the latency on this device depends on the sizes of the network, and write it to
    /// latency.json in the folder --out; --set latency.model=FILE gives it to a search.
    Latency,
    /// Export a network (--weights) into the folder --out.
    Export(ExportOptions),
    /// Say what a run folder, artifact, checkpoint, image, data folder or pattern of tar shards is, and
    /// whether it is taken.
    ///
    /// The exit status is 0 only if all of it is.
    Inspect(InspectCommand),
    /// Write report.html of a run, finished or not.
    Report {
        /// Run folder.
        run: PathBuf,
    },
}

impl Command {
    /// The part of a run that it runs; `None` for a command that trains nothing.
    pub fn stage(&self) -> Option<pipeline::Command> {
        match self {
            Self::Train => Some(pipeline::Command::Train),
            Self::Search => Some(pipeline::Command::Search),
            Self::Finetune => Some(pipeline::Command::Finetune),
            Self::Eval
            | Self::Forecast(_)
            | Self::Latency
            | Self::Export(_)
            | Self::Inspect(_)
            | Self::Report { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct ForecastOptions {
    /// Training images to measure on, without augmentation.
    #[arg(long, default_value_t = 1024)]
    pub images: i64,

    /// Shares of the dense network's MACs.
    #[arg(long, value_delimiter = ',', default_value = "0.7,0.5,0.3")]
    pub shares: Vec<f64>,
}

#[derive(Debug, Clone, Args)]
pub struct ExportOptions {
    /// Files to write beside the weights.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "torchscript,onnx")]
    pub format: Vec<Format>,

    /// Type of the weights.
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: StoredAs,
}

#[derive(Debug, Clone, Args)]
pub struct InspectCommand {
    /// What to inspect.
    pub path: PathBuf,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,

    /// Heads of a ViT in a checkpoint. Default: those of config.json beside it, else of published networks of its sizes.
    #[arg(long)]
    pub heads: Option<i64>,

    /// Key of the state dict in a checkpoint. Default: that of an EMA, else that of raw weights.
    #[arg(long)]
    pub entry: Option<String>,

    /// Prefix of the names in a checkpoint. Default: one that all names have.
    #[arg(long)]
    pub prefix: Option<String>,

    /// Largest accepted number of pixels of an image. Default: 64 million.
    #[arg(long, value_name = "PIXELS")]
    pub max_pixels: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Torchscript,
    Onnx,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoredAs {
    F32,
    F16,
    Bf16,
}

impl From<StoredAs> for Precision {
    fn from(stored: StoredAs) -> Self {
        match stored {
            StoredAs::F32 => Self::F32,
            StoredAs::F16 => Self::F16,
            StoredAs::Bf16 => Self::Bf16,
        }
    }
}

/// Options of a run. A flag overrides --set, --set overrides --config, --config the preset.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of a run")]
pub struct RunOptions {
    /// Options to begin with. Default: those of the run in --out, else demo.
    #[arg(long, global = true, value_enum)]
    pub preset: Option<Preset>,

    /// TOML file with options; all others are those of the preset. A file with all that a run needs, as the
    /// config.toml of a run, is taken without one.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Any option, by its name in config.toml: --set search.share=0.7,
    /// --set search.options.pruning.fade_out_steps=20, --set search.options.pmim=none. Repeatable.
    #[arg(long, global = true, value_name = "NAME=VALUE")]
    pub set: Vec<String>,

    /// Folder of images: train/ and val/ with a folder per class (ImageNet), or IDX files under
    /// MNIST's names; or the WebDataset tar shards to train on: 'train-{000..146}.tar', with --val.
    /// Default: built-in images.
    #[arg(long, global = true, value_name = "PATH")]
    pub data: Option<PathBuf>,

    /// Tar shards to evaluate on, where --data has those to train on: 'val-{00..06}.tar'.
    #[arg(long, global = true, value_name = "SHARDS")]
    pub val: Option<PathBuf>,

    /// Run folder. Default: runs/<time>.
    #[arg(long, global = true, value_name = "RUN")]
    pub out: Option<PathBuf>,

    /// Seconds that a process waits for the others of its group, before it takes one for failed.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 600)]
    pub time_limit: u64,

    /// Resume the run in --out from its newest checkpoints, with its command and options.
    #[arg(long, global = true, requires = "out")]
    pub resume: bool,

    /// Limit of the subnet's MACs: a share of the dense network's (0.5) or an amount (1.3G).
    #[arg(long, global = true, value_name = "MACS")]
    pub budget: Option<String>,

    /// Limit of its parameters: a share or an amount (8M). With --budget, both hold.
    #[arg(long, global = true, value_name = "PARAMS")]
    pub params: Option<String>,

    /// Limit of its latency on this device: a share of the dense network's (0.6) or milliseconds of a batch (12ms).
    /// It is measured first, in up to five minutes; --set latency.batch=32 and others say how.
    #[arg(long, global = true, value_name = "LATENCY")]
    pub latency: Option<String>,

    /// The search may remove whole attentions and MLPs; --set space.depth=true.
    #[arg(long, global = true)]
    pub depth: bool,

    /// Queries and keys get a width of their own, apart from values; --set space.qk_v_apart=true.
    #[arg(long, global = true)]
    pub qk_v_apart: bool,

    /// Network to start from: a run folder (its newest network), an artifact, or a checkpoint of timm, transformers
    /// or the authors (.safetensors, .pth, .bin); or hub:OWNER/NAME, which is fetched (feature hub).
    /// For finetune in a run that has searched: where its dense network is now.
    #[arg(long, global = true, value_name = "PATH")]
    pub weights: Option<PathBuf>,

    /// Distillation teacher: a run folder, an artifact, or a checkpoint of a ViT or Swin.
    #[arg(long, global = true, value_name = "PATH")]
    pub teacher: Option<PathBuf>,

    /// cpu, cuda, cuda:N, or auto.
    #[arg(long, global = true)]
    pub device: Option<String>,

    /// Seed of everything random.
    #[arg(long, global = true)]
    pub seed: Option<u64>,

    /// Epochs of each stage of this command.
    #[arg(long, global = true, conflicts_with = "steps")]
    pub epochs: Option<f64>,

    /// Optimiser steps of each stage of this command.
    #[arg(long, global = true)]
    pub steps: Option<u64>,

    /// Images of a batch.
    #[arg(long, global = true)]
    pub batch: Option<i64>,

    /// Peak learning rate of the weights.
    #[arg(long, global = true)]
    pub lr: Option<f64>,
}

impl RunOptions {
    /// The request that the pipeline resolves.
    pub fn request(self, command: Option<pipeline::Command>) -> Request {
        Request {
            command,
            preset: self.preset.map(Preset::text),
            default_preset: Preset::Demo.text(),
            file: self.config,
            settings: self.set,
            flags: Flags {
                data: self.data,
                val: self.val,
                weights: self.weights,
                teacher: self.teacher,
                macs: self.budget,
                params: self.params,
                latency: self.latency,
                depth: self.depth,
                qk_v_apart: self.qk_v_apart,
                device: self.device,
                seed: self.seed,
                epochs: self.epochs,
                steps: self.steps,
                batch: self.batch,
                lr: self.lr,
            },
            run: self.out,
            resume: self.resume,
        }
    }
}
