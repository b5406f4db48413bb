//! AdamW and the EMA of parameters. The state of both is sliced when units are pruned, and saved in
//! checkpoints.

mod adamw;
mod ema;

pub use adamw::{AdamW, AdamWOptions, Moments};
pub use ema::Ema;
