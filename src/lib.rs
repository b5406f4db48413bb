#![doc = include_str!("../README.md")]
// docs.rs names the feature of every item that has one.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod batch;
pub mod check;
pub mod components;
pub mod cost;
pub mod data;
pub mod device;
pub mod error;
mod files;
pub mod import;
mod latency;
pub mod models;
pub mod optim;
#[cfg(feature = "proptest")]
pub mod oracle;
pub mod precision;
pub mod prelude;
#[cfg(any(feature = "export", feature = "report"))]
mod protobuf;
mod randomness;
#[cfg(feature = "report")]
pub mod report;
pub mod schedule;
pub mod search;
pub mod space;
#[cfg(feature = "proptest")]
pub mod strategies;
pub mod subnet;
pub mod supernet;
mod tensors;

pub use error::{Error, Result};
