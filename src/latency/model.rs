//! The latency model: a stored value.

use super::{median, Setting};
use crate::cost::{CostModel, TableCost};
use crate::error::LatencyError;
use crate::files::{read_json, write_json};
use crate::models::Architecture;
use crate::space::{SearchSpace, Sizes};
use crate::typed::first_difference;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
#[cfg(feature = "pipeline")]
use std::io::Read;
use std::path::Path;

const FORMAT: &str = "once-for-both/latency";
const VERSION: u32 = 1;
/// Bytes of a file in which its format is named.
#[cfg(feature = "pipeline")]
const START: u64 = 256;

/// Latency of a network at any sizes of its dimensions, measured on one device.
///
/// [`measure`](Self::measure) makes it; docs/latency.md says how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyModel {
    format: String,
    version: u32,
    /// Conditions of the measurement.
    pub setting: Setting,
    /// Family of the dense network.
    pub family: String,
    /// Configuration of the dense network, [in evaluation](Architecture::in_evaluation).
    pub architecture: Value,
    /// Median latency of the dense network, in milliseconds of a batch.
    pub dense_ms: f64,
    /// Predicted latency, in milliseconds of a batch.
    pub cost: TableCost,
    /// Error of the predictions.
    pub error: PredictionError,
    /// Largest latency of the dense network over the measurement divided by the smallest, minus 1: by how much
    /// the speed of the machine changed. Predictions are made of ratios to the dense network at the same
    /// time.
    pub drift: f64,
    /// Channels of one unit, of the dimensions where it is more than one: rotary positions turn pairs of channels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub channels_per_unit: BTreeMap<String, i64>,
    /// The measured networks.
    pub networks: Vec<MeasuredNetwork>,
}

/// Relative error of predictions for networks that were left out of the fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PredictionError {
    /// Median of |predicted / measured − 1|.
    pub median: f64,
    /// 95th percentile.
    pub p95: f64,
    /// Number of networks.
    pub networks: usize,
}

impl PredictionError {
    /// Returns the error of pairs of a predicted and a measured latency; NaN without any.
    pub fn of(pairs: &[[f64; 2]]) -> Self {
        let mut errors: Vec<f64> =
            pairs.iter().map(|[predicted, measured]| (predicted / measured - 1.0).abs()).collect();
        errors.sort_by(f64::total_cmp);
        // The smallest error that 95 % do not exceed.
        let at = (0.95 * errors.len() as f64).ceil() as usize;
        let p95 = errors.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN);
        Self { p95, networks: errors.len(), median: median(errors) }
    }
}

/// A network of the measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredNetwork {
    /// Measured latency, in milliseconds: median ratio to the dense network, times its latency.
    pub measured_ms: f64,
    /// Predicted latency, in milliseconds; of a network that was left out, by the fit without it.
    pub predicted_ms: f64,
    /// Whether it was left out of the fit that its error is estimated from.
    pub held_out: bool,
    /// Its sizes, in units; empty in files of earlier versions.
    #[serde(default)]
    pub sizes: Sizes,
}

/// What a measurement gives beside its conditions.
pub(super) struct Findings {
    pub(super) dense_ms: f64,
    pub(super) cost: TableCost,
    pub(super) channels_per_unit: BTreeMap<String, i64>,
    pub(super) drift: f64,
    pub(super) networks: Vec<MeasuredNetwork>,
}

impl LatencyModel {
    pub(super) fn new<A: Architecture>(
        architecture: &A,
        setting: Setting,
        findings: Findings,
    ) -> Result<Self> {
        let Findings { dense_ms, cost, channels_per_unit, drift, networks } = findings;
        let held_out = networks.iter().filter(|own| own.held_out);
        let pairs: Vec<[f64; 2]> =
            held_out.map(|own| [own.predicted_ms, own.measured_ms]).collect();
        Ok(Self {
            format: FORMAT.into(),
            version: VERSION,
            setting,
            family: A::FAMILY.into(),
            architecture: json(&architecture.in_evaluation())?,
            dense_ms,
            cost,
            error: PredictionError::of(&pairs),
            drift,
            channels_per_unit,
            networks,
        })
    }

    /// Returns the predicted latency at these sizes, in milliseconds of a batch.
    ///
    /// # Errors
    /// [`Error::Unknown`] if a dimension of the search space that was measured is not in `sizes`.
    pub fn predict(&self, sizes: &Sizes) -> Result<f64> {
        self.cost.evaluate(sizes)
    }

    /// Returns the cost model of an architecture with this latency.
    ///
    /// # Errors
    /// [`LatencyError::Differs`] for another architecture than the one that was measured.
    pub fn cost_model<A: Architecture>(&self, architecture: &A) -> Result<CostModel> {
        self.expect_architecture(architecture)?;
        Ok(CostModel { latency: Some(self.cost.clone()), ..architecture.cost_model() })
    }

    /// Checks that an architecture is the one that was measured, up to what acts in training alone
    /// ([`Architecture::in_evaluation`]).
    ///
    /// # Errors
    /// [`LatencyError::Differs`] with the first field that differs.
    pub fn expect_architecture<A: Architecture>(&self, architecture: &A) -> Result<()> {
        if self.family != A::FAMILY {
            let (measured, present) = (self.family.clone(), A::FAMILY.into());
            return Err(LatencyError::Differs { what: "family", measured, present }.into());
        }
        let own = json(&architecture.in_evaluation())?;
        // A file of an earlier version has what acts in training, too.
        let measured = match A::deserialize(&self.architecture) {
            Ok(measured) => json(&measured.in_evaluation())?,
            Err(_) => self.architecture.clone(),
        };
        if own == measured {
            return Ok(());
        }
        let (name, present, measured) = first_difference("", &own, &measured);
        let named = |value: String| format!("{} = {value}", name.trim_start_matches('.'));
        let (measured, present) = (named(measured), named(present));
        Err(LatencyError::Differs { what: "architecture", measured, present }.into())
    }

    /// Checks that the median error of the predictions is at most `limit`, a share.
    ///
    /// # Errors
    /// [`LatencyError::Inaccurate`] for a larger error, and for NaN: no network was left out of the fit.
    pub fn expect_accurate(&self, limit: f64) -> Result<()> {
        let (error, drift) = (self.error.median, self.drift);
        match error <= limit {
            true => Ok(()),
            false => Err(LatencyError::Inaccurate { error, limit, drift }.into()),
        }
    }

    /// Checks that every candidate of a search space lies within the sizes that were measured.
    ///
    /// # Errors
    /// [`LatencyError::Beyond`] with the first that does not.
    pub fn expect_space(&self, space: &SearchSpace) -> Result<()> {
        for term in self.cost.terms() {
            let grids = &self.cost.tables()[term.table].grids;
            for (name, grid) in term.dimensions.iter().zip(grids) {
                let own = space.dimensions.iter().filter(|dimension| dimension.name == *name);
                for dimension in own {
                    let mut sizes = dimension.candidates.sizes();
                    if let Some(size) = sizes.find(|size| !grid.spans(*size)) {
                        let size = dimension.in_channels(size).to_string();
                        return Err(LatencyError::Beyond { dimension: name.clone(), size }.into());
                    }
                }
            }
        }
        let measured: Vec<&String> =
            self.cost.terms().iter().flat_map(|term| &term.dimensions).collect();
        let mut names = space.dimensions.iter().map(|own| &own.name);
        match names.find(|name| !measured.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Error::unknown("dimension of the latency model", name, measured)),
        }
    }

    /// Returns whether a file begins as one that [`write`](Self::write) has written.
    #[cfg(feature = "pipeline")]
    pub(crate) fn is_at(path: &Path) -> bool {
        let mut start = Vec::new();
        let read = crate::files::open(path);
        let read = read.and_then(|file| file.take(START).read_to_end(&mut start));
        read.is_ok_and(|_| String::from_utf8_lossy(&start).contains(FORMAT))
    }

    /// Writes the model as JSON, atomically.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        write_json(path.as_ref(), self)
    }

    /// Reads a model that [`write`](Self::write) has written. Check it with
    /// [`Setting::expect`] before it is used on a device.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::File`] if it holds something else or another
    /// version.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let value: Value = read_json(path)?;
        let wrong = |name: &str, expected: &str| {
            let reason = format!("{name}: got {}, expected {expected}", value[name]);
            Error::file(path, reason)
        };
        if value["format"] != FORMAT {
            return Err(wrong("format", &format!("{FORMAT:?}")));
        }
        if value["version"] != VERSION {
            return Err(wrong("version", &VERSION.to_string()));
        }
        crate::typed::from_value(value).map_err(|error| Error::file(path, error))
    }
}

fn json<A: Architecture>(architecture: &A) -> Result<Value> {
    serde_json::to_value(architecture)
        .map_err(|error| Error::invalid("architecture", "serialisable as JSON", error))
}
