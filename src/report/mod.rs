//! What a run is told by: measured latency.

mod latency;

pub use latency::{compare_latency, median, Latency};
