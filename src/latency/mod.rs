//! Latency on the user's own device: measured, predicted for any sizes, and limited by a budget.
//!
//! A [`LatencyModel`] predicts the latency of a network at any sizes of its dimensions. It is made of
//! measurements of whole networks on one device: [`LatencyModel::measure`] builds an
//! [`Architecture`](crate::models::Architecture) at chosen sizes with random weights and times it with a
//! [`Meter`]. The model is a constant plus one table for every group of dimensions that meet in one
//! layer ([`TableCost`](crate::cost::TableCost)); equal blocks share a table.
//!
//! Given to [`SearchBuilder::latency`](crate::search::SearchBuilder::latency), it is a cost like MACs:
//! [`Budget::latency`](crate::cost::Budget::latency) limits it. docs/latency.md leads through it.
//!
//! ```no_run
//! use once_for_both::latency::{DeviceMeter, LatencyModel, MeasureOptions};
//! use once_for_both::prelude::*;
//! use tch::Device;
//!
//! # fn main() -> once_for_both::Result<()> {
//! let vit = VitConfig::deit_small();
//! let meter = DeviceMeter::new(Device::Cpu, Precision::F32, [1, 3, 224, 224])?;
//! let options = MeasureOptions::default();
//! let model = LatencyModel::measure(&vit, &vit.space()?, &meter, &options, &mut |progress| {
//!     println!("{progress}");
//!     Ok(())
//! })?;
//! println!("median error {:.1} %", 100.0 * model.error.median);
//! let search = Search::of(vit).latency(model).budget(Budget::latency_share(0.6)).steps(600, 400);
//! # Ok(())
//! # }
//! ```

mod check;
mod compare;
mod design;
mod fit;
mod groups;
mod kernel;
mod measure;
mod memory;
mod meter;
mod model;
mod monotone;
mod profile;
mod ratio;
mod setting;
mod steps;

pub use check::MeasuredLatency;
pub use compare::{compare_latency, latency_rounds, median, Latency};
pub use measure::{MeasureOptions, MeasureProgress};
pub use memory::{peak_memory, PeakMemory};
pub use meter::{DeviceMeter, Meter, Timer};
pub use model::{LatencyModel, MeasuredNetwork, PredictionError};
pub use profile::DimensionLatency;
pub use setting::Setting;
