//! Measured sensitivity: the rise of the loss when one dimension alone is pruned to each of its
//! candidate sizes.
//!
//! [`Calibration`] holds calibration batches and a loss, and measures a network:
//! one pass over the batches for each candidate, without autograd. [`Sensitivity`] is the result.
//! - [`Sensitivity::forecast`] adds the rises of a choice of sizes and chooses, for each of several
//!   budgets, the sizes with the smallest sum: what a budget will cost, before any search.
//!   [`Calibration::rise`] measures such a choice, all dimensions pruned at once.
//! - [`Sensitivity::start_alpha`] sets α = −rise/temperature, so that a search starts from the
//!   measurement, or with `optimiser.alpha_rate = 0` decides by it alone.
//! - [`Sensitivity::write`] saves it as JSON; a report shows it.
//!
//! ```
//! use once_for_both::prelude::*;
//! use once_for_both::sensitivity::Calibration;
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> once_for_both::Result<()> {
//! let vit = VitConfig::uniform(32, 2, 2).input(16, 3, 8).classes(10);
//! let builder = Search::of(vit).budget(Budget::macs_share(0.5));
//! let mut search = builder.options(SearchOptions::learned(6, 4)).build()?;
//! let images = Tensor::f_randn([8, 3, 16, 16], (Kind::Float, Device::Cpu))?;
//! let classes = Tensor::f_randint(10, [8], (Kind::Int64, Device::Cpu))?;
//! let batches = [Batch::classes(images, classes)];
//!
//! let mut calibration = Calibration::cross_entropy(&batches);
//! let sensitivity = search.evaluate(|supernet| calibration.measure(supernet))?;
//! let (model, space) = (search.supernet().cost_model(), search.supernet().space());
//! let budgets = [Budget::macs_share(0.7), Budget::macs_share(0.5)];
//! println!("{}", sensitivity.forecast(model, space, &budgets)?);
//! sensitivity.start_alpha(&mut search, 1.0)?;
//! # Ok(())
//! # }
//! ```

mod calibration;
mod forecast;
mod start;
mod words;

pub use calibration::{Calibration, Outputs, Progress};
pub use forecast::{Forecast, ForecastPoint, GivesWay};

use crate::files::{read_json, write_json};
use crate::space::{DimensionKind, Size};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Rise of the loss above that of the network before pruning, over the same images.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rise {
    /// Mean over the calibration images, in units of the loss. Negative where the loss falls.
    pub mean: f64,
    /// Standard error of the mean: standard deviation of the images' rises / √images.
    pub standard_error: f64,
}

/// Measurement of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CandidateSensitivity {
    /// Size of the candidate.
    pub size: Size,
    /// Rise of the loss when this dimension alone has this size; 0 at its present size.
    pub rise: Rise,
}

/// Measurements of one dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DimensionSensitivity {
    /// Name of the dimension.
    pub name: String,
    /// Kind of the dimension.
    pub kind: DimensionKind,
    /// Its size in the measured network.
    pub size: Size,
    /// Its possible candidates, in the order of the search space.
    pub candidates: Vec<CandidateSensitivity>,
}

/// Rise of the loss at every candidate size of every dimension, each pruned alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// Number of calibration images.
    pub images: usize,
    /// Mean loss of the network before pruning.
    pub loss: f64,
    /// Standard error of that mean over the images.
    pub standard_error: f64,
    /// All dimensions, in the order of the search space.
    pub dimensions: Vec<DimensionSensitivity>,
}

impl Sensitivity {
    /// Returns the measurements of the dimension with this name.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the existing names if there is none.
    pub fn dimension(&self, name: &str) -> Result<&DimensionSensitivity> {
        let found = self.dimensions.iter().find(|dimension| dimension.name == name);
        found.ok_or_else(|| {
            let known = self.dimensions.iter().map(|dimension| &dimension.name);
            Error::unknown("dimension of the sensitivity", name, known)
        })
    }

    /// Writes the sensitivity as JSON, atomically.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        write_json(path.as_ref(), self)
    }

    /// Reads a sensitivity that [`write`](Self::write) has written.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::File`] if it holds something else.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        read_json(path.as_ref())
    }
}

impl DimensionSensitivity {
    /// Returns the measured rise at a size.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the size is not among the measured candidates.
    pub fn rise(&self, size: Size) -> Result<Rise> {
        let found = self.candidates.iter().find(|candidate| candidate.size == size);
        found.map(|candidate| candidate.rise).ok_or_else(|| {
            let sizes: Vec<String> = self.candidates.iter().map(|c| c.size.to_string()).collect();
            let expected = format!("one that was measured: {}", sizes.join(", "));
            Error::invalid(format!("size of {}", self.name), expected, size)
        })
    }
}
