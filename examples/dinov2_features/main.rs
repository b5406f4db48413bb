//! Compresses a pretrained network without labels: DINOv2-small, whose features are its own target.
//!
//! ```sh
//! folder=$(scripts/dinov2_small.py --check)     # 230 MB into the cache, once
//! scripts/with-libtorch cargo run --release --features pipeline --example dinov2_features -- --folder $folder --check
//! scripts/with-libtorch cargo run --release --features pipeline --example dinov2_features -- --folder $folder --out dinov2-half
//! ```
//!
//! The first command fetches the backbone and 2,000 images; the second compares the features of the dense
//! network with those of the ONNX file it was read from; the third searches at half of the MACs, and saves
//! the subnet. `--methods default,sensitivity,magnitude,random,even` compares methods; `--json FILE` appends a row for
//! each.
//!
//! The network is a ViT whose head is applied to every token (`Pooling::Tokens`), with the identity as its
//! weight: the features keep their 384 channels while the embedding is pruned. Teacher is the dense
//! network, and the task is `FeatureMatching`: the loss is the relative squared error from its features, half
//! of it for the class token; labels are not used. Held-out images judge by 1 − cosine and by the relative
//! error ‖s − t‖/‖t‖, of class token and patch tokens, and, as features are used, by the top-1 of nearest
//! neighbours and of a linear probe on class tokens ([`once_for_both::evaluate`]).

mod dense;
mod distance;
#[path = "../support/failure.rs"]
mod failure;
mod judge;
mod methods;
#[path = "../support/paired.rs"]
mod paired;
mod row;
#[path = "../support/settings.rs"]
mod settings;
mod trial;
#[path = "../support/unsearched.rs"]
mod unsearched;

use clap::Parser;
use dense::Dense;
use methods::Named;
use once_for_both::components::FeatureMatching;
use once_for_both::precision::Precision;
use row::{differences, Row, RowFile};
use std::path::PathBuf;
use std::process::ExitCode;
use trial::Bench;

/// Any error.
pub type AnyError = Box<dyn std::error::Error>;

/// Searches DINOv2-small without labels, for features like those of the dense network.
#[derive(Debug, Clone, Parser)]
#[command(name = "dinov2_features")]
pub struct Options {
    /// Folder that scripts/dinov2_small.py prints.
    #[arg(long)]
    folder: PathBuf,

    /// Compares the dense network's features with those in check.safetensors, and ends.
    #[arg(long)]
    check: bool,

    /// Methods, in order: default, sensitivity, magnitude, random, even.
    #[arg(long, value_delimiter = ',', default_value = "default")]
    methods: Vec<Named>,

    /// Budget as a share of the dense MACs.
    #[arg(long, default_value_t = 0.5)]
    budget: f64,

    /// Optimiser steps of search and fine-tuning.
    #[arg(long, default_value_t = 150)]
    steps: u64,

    /// Share of the steps that search.
    #[arg(long, default_value_t = 0.4)]
    search: f64,

    /// Images of an optimiser step.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(i64).range(1..))]
    batch: i64,

    /// Train on random crops and flips of the images instead of central crops, which are judged.
    #[arg(long)]
    crops: bool,

    /// Peak learning rate of the weights.
    #[arg(long, default_value_t = 2e-4)]
    lr: f64,

    /// Share of the class token in the loss.
    #[arg(long, default_value_t = 0.5)]
    class_share: f64,

    /// Size of the random errors that losses are estimated from, as a share of the features.
    #[arg(long, default_value_t = 0.01)]
    probe: f64,

    /// Least width of a hidden layer, as a share of its own. Below a quarter nearest neighbours lose, although cosines
    /// do not show it.
    #[arg(long, default_value_t = 0.25)]
    least_hidden: f64,

    /// Any option of the search: --set pruning.hidden_factor=1. Repeatable.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,

    /// Seeds of the order of the data and of everything random.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,

    /// Training images that sensitivity is measured on.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i64).range(2..))]
    calibration: i64,

    /// Held-out images that judge, of all classes; all 500 if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    judged: Option<u64>,

    /// Training images that nearest neighbours and the linear probe know with their labels, of all classes; all
    /// 1,500 if not given; 0: neither judges.
    #[arg(long, value_parser = known)]
    known: Option<u64>,

    /// Side of the images in pixels, a multiple of 14: positions are interpolated.
    #[arg(long, default_value_t = dense::SIDE)]
    side: i64,

    /// Compute in bf16 while training. Images are judged in f32.
    #[arg(long)]
    bf16: bool,

    /// New folder that the subnet is saved to, if there is one method and seed.
    #[arg(long)]
    out: Option<PathBuf>,

    /// File that one object per method and seed is appended to.
    #[arg(long)]
    json: Option<PathBuf>,

    /// Threads that decode images.
    #[arg(long, default_value_t = 1)]
    workers: usize,

    /// cpu, cuda, cuda:N, or auto.
    #[arg(long, default_value = "auto")]
    device: String,
}

impl Options {
    /// What is optimised: closeness to the features of the dense network.
    fn task(&self) -> FeatureMatching {
        let Self { class_share, probe, .. } = *self;
        FeatureMatching { class_share, probe, ..FeatureMatching::default() }
    }

    fn precision(&self) -> Precision {
        if self.bf16 {
            Precision::Bf16
        } else {
            Precision::F32
        }
    }

    /// Optimiser steps that search.
    fn search_steps(&self) -> u64 {
        (self.steps as f64 * self.search) as u64
    }
}

/// Number of known images: none, or enough for the neighbours that vote.
fn known(text: &str) -> Result<u64, String> {
    let least = once_for_both::evaluate::Knn::default().neighbours as u64;
    match text.parse() {
        Ok(0) => Ok(0),
        Ok(images) if images >= least => Ok(images),
        _ => Err(format!("expected 0, or at least {least}, the neighbours that vote")),
    }
}

fn main() -> ExitCode {
    let Err(error) = execute(&Options::parse()) else { return ExitCode::SUCCESS };
    failure::tell(&*error);
    ExitCode::FAILURE
}

fn execute(options: &Options) -> Result<(), AnyError> {
    if options.out.is_some() && options.methods.len() * options.seeds.len() != 1 {
        return Err("--out: got several subnets, expected one; give one method and seed".into());
    }
    if let Some(out) = &options.out {
        if out.exists() {
            return Err(format!("--out {}: is there, expected a new folder", out.display()).into());
        }
        once_for_both::pipeline::expect_writable(out)?;
    }
    for method in &options.methods {
        method.options(options, 0)?;
    }
    let mut file = options.json.as_deref().map(RowFile::open).transpose()?;
    let device = once_for_both::device::parse(&options.device)?;
    let dense = Dense::load(&options.folder, options.side, device)?;
    if options.check {
        if options.side != dense::SIDE {
            let side = options.side;
            return Err(format!("--side: got {side}, expected {} with --check", dense::SIDE).into());
        }
        return dense.check(&options.folder.join("check.safetensors"));
    }
    let mut bench = Bench::new(options, dense)?;
    println!("{}\n{:18}{:.4} {:6}   {}", Row::HEADER, "dense", 1.0, 0, bench.judge.dense);
    let mut rows = Vec::new();
    for &method in &options.methods {
        for &seed in &options.seeds {
            let row = bench.run(method, seed)?;
            println!("{row}");
            file.as_mut().map_or(Ok(()), |file| file.append(&row))?;
            rows.push(row);
        }
    }
    for line in differences(&rows) {
        println!("{line}");
    }
    Ok(())
}
