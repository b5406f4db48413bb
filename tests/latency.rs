//! Latency models, on a synthetic device: fit, refusals, projection, and correction.

#[path = "latency_cases/budgets.rs"]
mod budgets;
#[path = "latency_cases/device.rs"]
mod device;
#[path = "latency_cases/model.rs"]
mod model;
#[cfg(feature = "pipeline")]
#[path = "latency_cases/run.rs"]
mod run;
#[path = "latency_cases/search.rs"]
mod search;
mod support;
#[path = "latency_cases/swin.rs"]
mod swin;
#[path = "latency_cases/tables.rs"]
mod tables;
