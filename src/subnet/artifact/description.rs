//! `config.json`: the description of an artifact.

use super::{
    header, read_json, refused, write_json, Differences, ARTIFACT, CONFIG, VERIFICATION, WEIGHTS,
};
use crate::components::ComponentIds;
use crate::cost::{CostLimit, Metric};
use crate::error::ArtifactError;
use crate::files::restore_folder;
use crate::latency::compare_latency;
use crate::models::Architecture;
use crate::subnet::Precision;
use crate::{Error, Result};
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tch::Tensor;

pub(super) const FORMAT: &str = "once-for-both/subnet";
const VERSION: u32 = 1;

/// Bytes read at a time for a checksum.
const CHUNK: usize = 1 << 16;

/// Search that a subnet was extracted from: its settings, and the cost of the dense network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of this crate that extracted the subnet.
    pub crate_version: String,
    /// Seed of the search.
    pub seed: u64,
    /// Optimiser steps of search and fine-tuning.
    pub steps: u64,
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
}

impl LatencyComparison {
    /// Measures both networks alternately on the same images, `runs` times after a warm-up.
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
        Ok(Self {
            device: format!("{device:?}"),
            batch: batch as u64,
            dense_ms: times[0].median_ms,
            subnet_ms: times[1].median_ms,
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
    /// Reads the description of an artifact, and checks the folder against it: costs; names, shapes
    /// and types of the weights; length and checksum of their file; the verification. No tensor is
    /// allocated.
    ///
    /// # Errors
    /// [`Error::Artifact`](crate::Error::Artifact) with the file and what is wrong with it;
    /// [`Error::Io`](crate::Error::Io) if a file is missing or cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        restore_folder(folder, &ARTIFACT)?;
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
        let (expected, actual) = (self.weights_crc32, crc32(weights)?);
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

/// Checks format, version and family, in this order: another version may store the family elsewhere.
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

/// Returns the CRC-32 of a file, read in chunks.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read.
pub(super) fn crc32(path: &Path) -> Result<u32> {
    let io = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(io)?;
    let (mut crc, mut chunk) = (Hasher::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk).map_err(io)? {
            0 => return Ok(crc.finalize()),
            length => crc.update(&chunk[..length]),
        }
    }
}
