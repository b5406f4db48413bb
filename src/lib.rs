#![doc = include_str!("../README.md")]

pub mod check;
pub mod cost;
pub mod data;
pub mod device;
pub mod error;
pub mod extract;
mod files;
pub mod import;
mod latency;
pub mod loss;
pub mod mask;
pub mod models;
pub mod optim;
pub mod oracle;
pub mod pmim;
mod protobuf;
mod randomness;
pub mod report;
pub mod search;
pub mod space;
#[cfg(feature = "proptest")]
pub mod strategies;
pub mod supernet;
mod tensors;

pub use error::{Error, Result};
