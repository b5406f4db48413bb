//! AdamW and the EMA of parameters. The state of both is sliced when units are pruned, and saved in
//! checkpoints.

mod adamw;
mod ema;

pub use crate::tensors::{FlatTensors, Layout, Segment};
pub use adamw::{AdamW, AdamWOptions, AdamWUpdate, Moments};
pub use ema::Ema;
