//! Makes Vision Transformers smaller in one search, over libtorch ([tch]).
//!
//! The method is "Once for Both: Single Stage of Importance and Sparsity Search for Vision
//! Transformer Compression" (Ye et al., CVPR 2024, arXiv 2403.15835). Every prunable unit (embedding
//! channel, attention head, head channel, hidden neuron) has a bi-mask m = λ·S + (1 − λ)·V: its
//! importance score S, and the sparsity score V, the probability that it is kept. By default λ = 1: S is learned, and sizes
//! are decided by the estimated rise of the loss. V is learned with [`SearchOptions::learned`](search::SearchOptions::learned)
//! and [`paper`](search::SearchOptions::paper). Either is one search under a [budget](cost::Budget); units are pruned on the
//! way, and the subnet is [extracted](search::Search::extract) as a plain small network.
//!
//! ```
//! use once_for_both::prelude::*;
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> once_for_both::Result<()> {
//! let vit = VitConfig::uniform(32, 2, 2).input(16, 3, 8).classes(10);
//! let mut search = Search::of(vit).budget(Budget::macs_share(0.5)).steps(6, 4).build()?;
//! let mut batches = |_number: u64| {
//!     let images = Tensor::f_randn([4, 3, 16, 16], (Kind::Float, Device::Cpu))?;
//!     Ok(Batch::classes(images, Tensor::f_randint(10, [4], (Kind::Int64, Device::Cpu))?))
//! };
//! search.train(&mut batches, &mut ())?;
//! let subnet = search.extract(&batches(0)?.images)?;
//! assert!(subnet.macs()? <= search.limits()[0].limit);
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! In the order in which data flows:
//!
//! | module | contents |
//! |---|---|
//! | [`space`] | dimensions, candidate sizes, bindings: what can be pruned |
//! | [`cost`] | MACs, parameters and latency as functions of the sizes, budgets, expected cost, projection |
//! | [`components`] | importance, bi-mask, one-hot loss, masked image modeling, teacher: the traits |
//! | [`models`] | `Architecture` and `Network`, ViT/DeiT, Swin |
//! | [`latency`] | latency measured on a device, as a cost |
//! | [`supernet`] | the network under search: weights θ ⊙ gates |
//! | [`search`] | the builder, optimiser steps, decisions, pruning, checkpoints, events |
//! | [`sensitivity`] | the measured rise of the loss at every candidate size, and forecasts from it |
//! | [`subnet`] | extraction, verification, artifacts, TorchScript and ONNX |
//! | [`batch`] | batches and their sources |
//! | [`data`] | image sets and transforms that make batches; files of images with feature `data` |
//! | [`import`] | pretrained weights |
//! | [`check`] | self-check of a declared search space |
//! | [`distributed`] | several processes that train one network together |
//! | [`optim`], [`schedule`], [`precision`], [`device`], [`randomness`] | AdamW and EMA, schedules, f32/f16/bf16, CPU and CUDA, seeds |
//!
//! Features add files of images to [`data`], `evaluate` (accuracy on a data set), `report`, `pipeline`, `oracle`, `strategies`
//! (property checks), and names on the hub to `import` (`hub`).
// docs.rs names the feature of every item that has one.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod autograd;
pub mod batch;
pub mod check;
mod checksums;
pub mod components;
pub mod cost;
pub mod data;
pub mod device;
pub mod distributed;
pub mod error;
#[cfg(feature = "data")]
pub mod evaluate;
mod files;
pub mod import;
pub mod latency;
pub mod models;
pub mod optim;
#[cfg(feature = "proptest")]
pub mod oracle;
#[cfg(feature = "pipeline")]
pub mod pipeline;
pub mod precision;
pub mod prelude;
#[cfg(any(feature = "export", feature = "report"))]
mod protobuf;
pub mod randomness;
mod range;
#[cfg(feature = "report")]
pub mod report;
pub mod schedule;
pub mod search;
pub mod sensitivity;
pub mod space;
#[cfg(feature = "proptest")]
pub mod strategies;
pub mod subnet;
pub mod supernet;
mod tensors;
mod transfer;
mod typed;

pub use error::{Error, Result};

/// The code of README.md and of these pages compiles; that of README.md runs.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/quickstart.md")]
    struct Quickstart;

    #[cfg(feature = "data")]
    #[doc = include_str!("../docs/features.md")]
    struct Features;

    #[doc = include_str!("../docs/scaling.md")]
    struct Scaling;

    #[doc = include_str!("../docs/latency.md")]
    struct Latency;
}
