//! A subnet on disk: `config.json`, `model.safetensors`, `verification.json`.

use super::{Subnet, Verification};
use crate::cost::Metric;
use crate::files::write_folder;
use crate::models::Architecture;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::Device;

const FORMAT: &str = "once-for-both/subnet";
const VERSION: u32 = 1;
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const VERIFICATION: &str = "verification.json";

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
}

#[derive(Debug, Serialize, Deserialize)]
struct Config<A> {
    format: String,
    version: u32,
    family: String,
    architecture: A,
    macs: f64,
    params: f64,
    provenance: Provenance,
}

impl<A: Architecture> Subnet<A> {
    /// Multiply-accumulates of one image.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the family's cost model is incomplete.
    pub fn macs(&self) -> Result<f64> {
        self.architecture().cost_model().dense_cost(Metric::Macs)
    }

    /// Parameters.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the family's cost model is incomplete.
    pub fn params(&self) -> Result<f64> {
        self.architecture().cost_model().dense_cost(Metric::Params)
    }

    /// Writes the subnet into `folder`, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] if it cannot be written.
    pub fn save(
        &self,
        folder: &Path,
        verification: &Verification,
        provenance: Provenance,
    ) -> Result<()> {
        let config = Config {
            format: FORMAT.into(),
            version: VERSION,
            family: A::FAMILY.into(),
            architecture: self.architecture().clone(),
            macs: self.macs()?,
            params: self.params()?,
            provenance,
        };
        write_folder(folder, |folder| {
            write_json(&folder.join(CONFIG), &config)?;
            write_json(&folder.join(VERIFICATION), verification)?;
            crate::tensors::write(&folder.join(WEIGHTS), self.weights())
        })
    }

    /// Loads a subnet from a folder that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] with the reason: foreign, of a newer version, truncated,
    /// or weights that are not those of the description.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let path = folder.join(CONFIG);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| Error::file(&path, e))?;
        check_header(&path, &value, A::FAMILY)?;
        let config: Config<A> = serde_json::from_value(value).map_err(|e| Error::file(&path, e))?;
        let weights = crate::tensors::read(&folder.join(WEIGHTS), device)?;
        Self::new(config.architecture, &weights, device).map_err(|error| Error::file(folder, error))
    }
}

fn check_header(path: &Path, value: &serde_json::Value, family: &str) -> Result<()> {
    for (key, expected) in [
        ("format", serde_json::json!(FORMAT)),
        ("version", serde_json::json!(VERSION)),
        ("family", serde_json::json!(family)),
    ] {
        let actual = value.get(key).unwrap_or(&serde_json::Value::Null);
        if *actual != expected {
            return Err(Error::file(path, format!("{key} is {actual}, expected {expected}")));
        }
    }
    Ok(())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).map_err(|error| Error::file(path, error))?;
    std::fs::write(path, json).map_err(|source| Error::io("write", path, source))
}
