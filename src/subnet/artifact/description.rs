//! What `config.json` says.

use super::{
    checksum, header, read_json, refused, write_json, Differences, CONFIG, VERIFICATION, WEIGHTS,
};
use crate::components::ComponentIds;
use crate::cost::{CostLimit, Metric};
use crate::error::ArtifactError;
use crate::latency::compare_latency;
use crate::models::Architecture;
use crate::subnet::Precision;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use tch::Tensor;

const FORMAT: &str = "once-for-both/subnet";
const VERSION: u32 = 1;

/// Where a subnet came from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of this crate.
    pub crate_version: String,
    /// Seed of the search.
    pub seed: u64,
    /// Steps of search and fine-tuning.
    pub steps: u64,
    /// MACs of the dense network.
    pub dense_macs: f64,
    /// Parameters of the dense network.
    pub dense_params: f64,
    /// Budgets of the search, in units of their metrics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<CostLimit>,
    /// Components of the search; none for a network that was not searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub components: Option<ComponentIds>,
}

/// Measured time of a batch, see [`compare_latency`](crate::report::compare_latency).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyComparison {
    /// What it was measured on.
    pub device: String,
    /// Images in the batch.
    pub batch: u64,
    /// Median of the dense network, in milliseconds.
    pub dense_ms: f64,
    /// Median of the subnet, in milliseconds.
    pub subnet_ms: f64,
}

impl LatencyComparison {
    /// Times two networks in turn on the same images, `[B, C, H, W]`, after a warm-up, `runs` rounds.
    ///
    /// # Errors
    /// Those of the networks; [`Error::Invalid`] for zero runs or images without a batch.
    pub fn measure(
        dense: &dyn Fn(&Tensor) -> Result<Tensor>,
        subnet: &dyn Fn(&Tensor) -> Result<Tensor>,
        images: &Tensor,
        runs: usize,
    ) -> Result<Self> {
        let Some(&batch) = images.size().first() else {
            return Err(Error::invalid("axes of the images", "4", 0));
        };
        let device = images.device();
        let both: [&dyn Fn() -> Result<()>; 2] =
            [&|| dense(images).map(drop), &|| subnet(images).map(drop)];
        let times = compare_latency(&both, runs, device)?;
        Ok(Self {
            device: format!("{device:?}"),
            batch: batch as u64,
            dense_ms: times[0].median_ms,
            subnet_ms: times[1].median_ms,
        })
    }
}

/// A subnet in words: everything of an artifact but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "A: Architecture")]
pub struct Description<A> {
    /// The network.
    pub architecture: A,
    /// Type of the stored weights.
    #[serde(rename = "dtype")]
    pub precision: Precision,
    /// Multiply-accumulates of one image.
    pub macs: f64,
    /// Parameters.
    pub params: f64,
    /// CRC-32 of `model.safetensors`.
    pub weights_crc32: u32,
    /// Where it came from.
    pub provenance: Provenance,
    /// What it gained, where that was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<LatencyComparison>,
}

#[derive(Serialize)]
#[serde(bound = "A: Architecture")]
struct Config<'a, A> {
    format: &'a str,
    version: u32,
    family: &'a str,
    #[serde(flatten)]
    description: &'a Description<A>,
}

impl<A: Architecture> Description<A> {
    /// Reads the description of an artifact, and checks that all of the folder agrees with it: the
    /// costs, names, shapes and types of the weights, length and checksum of their file, and the
    /// differences measured. No tensor is allocated.
    ///
    /// # Errors
    /// [`Error::Artifact`](crate::Error::Artifact) names the file and says what is wrong with it;
    /// [`Error::Io`](crate::Error::Io) if it is missing or cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let refused = |source| refused(&path, source);
        let value = read_json(&path)?;
        check_kind(&value, A::FAMILY).map_err(refused)?;
        let description: Self = serde_json::from_value(value).map_err(|e| refused(e.into()))?;
        let shapes = description.architecture.variables();
        let shapes = shapes
            .map_err(|source| refused(ArtifactError::Architecture { source: Box::new(source) }))?;
        let cost = description.architecture.cost_model();
        for (metric, name, stated) in [
            (Metric::Macs, "MACs", description.macs),
            (Metric::Params, "parameters", description.params),
        ] {
            let computed = cost.dense_cost(metric)?;
            if stated != computed {
                return Err(refused(ArtifactError::Cost { metric: name, stated, computed }));
            }
        }
        header::check(&folder.join(WEIGHTS), &shapes, description.precision)?;
        description.check_sum(&folder.join(WEIGHTS))?;
        Differences::read(&folder.join(VERIFICATION))?;
        Ok(description)
    }

    fn check_sum(&self, weights: &Path) -> Result<()> {
        let (expected, actual) = (self.weights_crc32, checksum::crc32(weights)?);
        if actual == expected {
            return Ok(());
        }
        Err(refused(weights, ArtifactError::Checksum { expected, actual }))
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let config =
            Config { format: FORMAT, version: VERSION, family: A::FAMILY, description: self };
        write_json(path, &config)
    }
}

/// Whose artifact it is. The version comes before the family: a newer one may name it elsewhere.
fn check_kind(config: &Value, family: &'static str) -> Result<(), ArtifactError> {
    let found = |field| config.get(field).unwrap_or(&Value::Null);
    let expect = |field, expected: &'static str| match found(field) {
        Value::String(text) if text == expected => Ok(()),
        other => Err(ArtifactError::Foreign { field, expected, found: other.to_string() }),
    };
    expect("format", FORMAT)?;
    if found("version").as_u64() != Some(VERSION.into()) {
        let found = found("version").to_string();
        return Err(ArtifactError::Version { supported: VERSION, found });
    }
    expect("family", family)
}
