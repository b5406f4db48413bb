//! How parameters move: AdamW and averages whose state can be narrowed and saved; learning rates.

mod adamw;
mod ema;

pub use adamw::{AdamW, AdamWOptions, Moments};
pub use ema::Ema;
