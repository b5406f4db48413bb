//! The command line.

use crate::config::Preset;
use clap::{Args, Parser, Subcommand, ValueEnum};
use once_for_both::subnet::Precision;
use std::path::PathBuf;

/// Makes a Vision Transformer smaller: trains it, searches it for the units worth keeping under a
/// budget, cuts the subnet out, verifies and saves it, and evaluates what was saved.
///
/// Without a command it does all of that. Each command goes on from what is in the run's folder:
/// `train` then `search` then `finetune` with the same --out are the whole run in parts, with the
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
  deit_s search --preset imagenet --data /data/imagenet --weights deit_small.pth \\
         --budget 1.3G --params 8M --out runs/half
  deit_s --resume --out runs/half               go on where it stopped, options as they were
  deit_s finetune --out runs/half               the next stage, options as they were
  deit_s eval --weights runs/half
  deit_s export --weights runs/half --format onnx --precision f16 --out half

The options of a run stand in RUN/config.toml, which --config takes. docs/guide.md tells more.";

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Train the dense network.
    Train,
    /// Search a trained network (--weights, or what `train` left in --out) and save the subnet.
    Search,
    /// Train a subnet on (what `search` left in --out, else --weights) and save it.
    Finetune,
    /// Top-1 of a network (--weights) on the test images.
    Eval,
    /// Write a network (--weights) for other programs, into the folder --out.
    Export(ExportOptions),
    /// Write report.html of a run, finished or not.
    Report {
        /// Folder of the run.
        run: PathBuf,
    },
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

/// What a run is told. A flag outweighs --set, --set outweighs --config, --config the preset.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of a run")]
pub struct RunOptions {
    /// Options to begin with; those of the run in --out if not given, else demo.
    #[arg(long, global = true, value_enum)]
    pub preset: Option<Preset>,

    /// TOML file with options; those not in it are the preset's.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Any option, by its name in config.toml: --set search.share=0.7,
    /// --set search.options.fade_out_steps=20, --set search.options.pmim=none. May be repeated.
    #[arg(long, global = true, value_name = "NAME=VALUE")]
    pub set: Vec<String>,

    /// Folder with images: classes as folders in train/ and val/ (ImageNet), or IDX files under
    /// MNIST's names; built-in images if not given.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data: Option<PathBuf>,

    /// Folder of the run; runs/<time> if not given.
    #[arg(long, global = true, value_name = "RUN")]
    pub out: Option<PathBuf>,

    /// Go on from the newest checkpoints in RUN, with the command and options it began with.
    #[arg(long, global = true, requires = "out")]
    pub resume: bool,

    /// MACs that the subnet may cost: a share of the dense network's (0.5), or so many (1.3G).
    #[arg(long, global = true, value_name = "MACS")]
    pub budget: Option<String>,

    /// Parameters that it may have, alike (8M). With --budget, both hold.
    #[arg(long, global = true, value_name = "PARAMS")]
    pub params: Option<String>,

    /// Network to begin with: a folder written here, or a checkpoint of timm or transformers
    /// (.safetensors, .pth, .bin).
    #[arg(long, global = true, value_name = "PATH")]
    pub weights: Option<PathBuf>,

    /// Network to learn from, alike.
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

    /// Highest learning rate of the weights.
    #[arg(long, global = true)]
    pub lr: Option<f64>,
}
