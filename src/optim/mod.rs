//! How parameters move: AdamW whose state can be narrowed and saved, and learning rates.

mod adamw;
mod schedule;

pub use adamw::{AdamW, AdamWOptions, Moments};
pub use schedule::CosineSchedule;
