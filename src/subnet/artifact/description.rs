//! `config.json`: the description of an artifact.

use super::{
    header, read_json, refused, write_json, Differences, ARTIFACT, CONFIG, LOADER, ONNX,
    TORCHSCRIPT, VERIFICATION, WEIGHTS,
};
use crate::checksums::{self, CHECKSUMS};
use crate::components::ComponentIds;
use crate::cost::{CostLimit, Metric};
use crate::error::ArtifactError;
use crate::files::read_folder;
use crate::latency::{compare_latency, peak_memory, PeakMemory};
use crate::models::Architecture;
use crate::subnet::Precision;
use crate::{typed, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use tch::Tensor;

pub(super) const FORMAT: &str = "once-for-both/subnet";
const VERSION: u32 = 2;
/// Version without `checksums.sfv`: only the weights had a checksum.
const WITHOUT_CHECKSUMS: u32 = 1;

/// Search that a subnet was extracted from: its settings, and the cost of the dense network.
///
/// [`Search::extract`](crate::search::Search::extract) fills it in. That of a network from elsewhere
/// is [`of`](Self::of) its architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of this crate that extracted the subnet.
    pub crate_version: String,
    /// Seed of the search; `None` for a network that this crate did not train.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Optimiser steps of search and fine-tuning; `None` for a network that this crate did not train.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// MACs of the dense network, for one image.
    pub dense_macs: f64,
    /// Parameters of the dense network.
    pub dense_params: f64,
    /// Budgets of the search, as amounts. Empty for a network that was not searched, and in artifacts
    /// without this field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<CostLimit>,
    /// Components of the search. `None` for a network that was not searched, and in artifacts without
    /// this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub components: Option<ComponentIds>,
}

impl Provenance {
    /// Returns the provenance of a network that was not searched: it is its own dense network.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the cost model names a dimension without a dense size.
    pub fn of<A: Architecture>(network: &A) -> Result<Self> {
        let model = network.cost_model();
        Ok(Self {
            crate_version: env!("CARGO_PKG_VERSION").into(),
            seed: None,
            steps: None,
            dense_macs: model.dense_cost(Metric::Macs)?,
            dense_params: model.dense_cost(Metric::Params)?,
            limits: Vec::new(),
            components: None,
        })
    }
}

/// Measured latency of the dense network and the subnet on the same batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyComparison {
    /// Device of the measurement.
    pub device: String,
    /// Number of images in the batch.
    pub batch: u64,
    /// Median wall time of the dense network, in milliseconds.
    pub dense_ms: f64,
    /// Median wall time of the subnet, in milliseconds.
    pub subnet_ms: f64,
    /// Peak memory of both, beside their weights; `None` where it is not measured ([`peak_memory`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<PeakMemory>,
}

impl LatencyComparison {
    /// Measures both networks alternately on the same images, `runs` times after a warm-up; then the peak memory of
    /// each.
    ///
    /// # Shapes
    /// `images`: `[B, C, H, W]`.
    ///
    /// # Errors
    /// Those of the networks; [`Error::Invalid`] for zero runs or images without axes.
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
        let [dense, subnet] = both.map(|own| peak_memory(own, device));
        let memory = dense?.zip(subnet?).map(|(dense, subnet)| PeakMemory { dense, subnet });
        Ok(Self {
            device: format!("{device:?}"),
            batch: batch as u64,
            dense_ms: times[0].median_ms,
            subnet_ms: times[1].median_ms,
            memory,
        })
    }
}

/// Contents of `config.json`: everything about a subnet except its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "A: Architecture")]
pub struct Description<A> {
    /// Configuration of the network: all sizes.
    pub architecture: A,
    /// Type of the stored weights.
    #[serde(rename = "dtype")]
    pub precision: Precision,
    /// MACs of one image.
    pub macs: f64,
    /// Number of parameters.
    pub params: f64,
    /// CRC-32 of `model.safetensors`.
    pub weights_crc32: u32,
    /// Search that the subnet was extracted from.
    pub provenance: Provenance,
    /// Measured latencies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<LatencyComparison>,
}

/// `config.json` as it is written.
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
    /// Reads the description of an artifact, and checks the folder against it: the checksum of every
    /// file; costs; names, shapes and types of the weights; the verification. No tensor is allocated. Only
    /// [`Subnet::load`](crate::subnet::Subnet::load), which builds the network, checks which variables are of integers
    /// or flags.
    ///
    /// Artifacts of version 1 have a checksum of the weights alone, and no `checksums.sfv`: beside
    /// one, that version is refused.
    ///
    /// # Errors
    /// [`Error::Artifact`](crate::Error::Artifact) with the file and what is wrong with it;
    /// [`Error::Io`](crate::Error::Io) if a file is missing or cannot be read.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        read_folder(folder.as_ref(), &ARTIFACT, Self::read_once)
    }

    fn read_once(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let refused = |source| refused(&path, source);
        let value = read_json(&path)?;
        let weights = folder.join(WEIGHTS);
        let weights_crc32 = match check_kind(&value, A::FAMILY).map_err(refused)? {
            WITHOUT_CHECKSUMS => expect_no_sums(folder).map_err(refused)?,
            _ => check_sums(folder)?,
        };
        let description: Self =
            typed::from_value(value).map_err(|e| refused(ArtifactError::Json(e.into())))?;
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
        header::check(&weights, &shapes, description.precision)?;
        let actual = weights_crc32.map_or_else(|| checksums::crc32(&weights), Ok)?;
        description.check_weights(&weights, actual)?;
        Differences::read_file(&folder.join(VERIFICATION))?;
        Ok(description)
    }

    /// Checks by their checksum that the weights are those that this description was written for.
    fn check_weights(&self, weights: &Path, actual: u32) -> Result<()> {
        match self.weights_crc32 {
            expected if expected == actual => Ok(()),
            expected => Err(refused(weights, ArtifactError::Checksum { expected, actual })),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let config =
            Config { format: FORMAT, version: VERSION, family: A::FAMILY, description: self };
        write_json(path, &config)
    }
}

/// Refuses a list of checksums beside a description of the version that had none: it was changed. Returns no checksum.
fn expect_no_sums(folder: &Path) -> Result<Option<u32>, ArtifactError> {
    match folder.join(CHECKSUMS).exists() {
        false => Ok(None),
        true => Err(ArtifactError::Checksums {
            reason: format!(
                "version: got {WITHOUT_CHECKSUMS}, which has no {CHECKSUMS}, expected {VERSION} \
                 beside one; copy the folder again"
            ),
        }),
    }
}

/// Checks every file of an artifact against `checksums.sfv`. Returns the checksum of the weights.
fn check_sums(folder: &Path) -> Result<Option<u32>> {
    let (needed, optional) = ([CONFIG, WEIGHTS, VERIFICATION], [TORCHSCRIPT, ONNX]);
    // A user may put the loader into an artifact of an earlier version.
    let checked = checksums::check(folder, &needed, &optional, &[LOADER]);
    checked.map(|sums| sums.get(WEIGHTS).copied()).map_err(|error| match error {
        Error::Checksum { path, expected, actual } => {
            refused(&path, ArtifactError::Checksum { expected, actual })
        }
        Error::File { path, reason } => refused(&path, ArtifactError::Checksums { reason }),
        other => other,
    })
}

/// Checks format, version and family, in this order: another version may store the family elsewhere.
/// Returns the version.
fn check_kind(config: &Value, family: &'static str) -> Result<u32, ArtifactError> {
    let found = |field| config.get(field).unwrap_or(&Value::Null);
    let expect = |field, expected: &'static str| match found(field) {
        Value::String(text) if text == expected => Ok(()),
        other => Err(ArtifactError::Foreign { field, expected, found: other.to_string() }),
    };
    expect("format", FORMAT)?;
    let versions = WITHOUT_CHECKSUMS..=VERSION;
    let version =
        versions.into_iter().find(|&known| found("version").as_u64() == Some(known.into()));
    let Some(version) = version else {
        let found = found("version").to_string();
        return Err(ArtifactError::Version { supported: VERSION, found });
    };
    expect("family", family)?;
    Ok(version)
}
