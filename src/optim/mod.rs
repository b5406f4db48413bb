//! How parameters move: AdamW and averages whose state can be narrowed and saved; learning rates.

mod adamw;
mod average;
mod schedule;

pub use adamw::{AdamW, AdamWOptions, Moments};
pub use average::Average;
pub use schedule::CosineSchedule;
