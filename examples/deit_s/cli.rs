//! The command line.

use clap::Parser;
use serde::Serialize;
use std::path::PathBuf;

/// Trains DeiT-S, searches it for the units worth keeping under a budget of multiply-accumulates,
/// cuts the subnet out, verifies it, saves it, and evaluates what was saved.
#[derive(Debug, Clone, Parser, Serialize)]
#[command(name = "deit_s")]
pub struct Options {
    /// Share of the dense network's MACs that the subnet may cost.
    #[arg(long, default_value_t = 0.5)]
    pub budget: f64,

    /// Optimiser steps of the dense network, of search with fine-tuning, and of the dense
    /// network that goes on training for comparison: each takes this many.
    #[arg(long, default_value_t = 200)]
    pub steps: u64,

    /// Images of a step.
    #[arg(long, default_value_t = 32)]
    pub batch: i64,

    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Folder of the run; runs/<time> if not given.
    #[arg(long, value_name = "RUN")]
    pub out: Option<PathBuf>,

    /// cpu, cuda, cuda:N, or auto.
    #[arg(long, default_value = "auto")]
    pub device: String,

    /// Go on from the newest checkpoints in RUN.
    #[arg(long, requires = "out")]
    pub resume: bool,

    /// Folder with IDX files (plain or gz) under MNIST's names; the built-in part of
    /// Fashion-MNIST if not given.
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,

    /// Highest learning rate of the weights.
    #[arg(long, default_value_t = 5e-4)]
    pub lr: f64,
}
