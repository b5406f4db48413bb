//! What `verification.json` says.

use super::{read_json, refused};
use crate::error::ArtifactError;
use crate::models::Architecture;
use crate::subnet::verify::difference;
use crate::subnet::{Subnet, Verification};
use crate::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::Tensor;

/// Measured differences of logits: of extraction, of rounding, of export.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    /// Between the extracted network and the masked one, both f32.
    #[serde(flatten)]
    pub extraction: Verification,
    /// Largest difference of a logit that rounding the weights makes, computing in f32; 0 for
    /// weights that are stored as f32.
    pub rounding: f64,
    /// Largest difference of a logit between the TorchScript file and the network whose weights
    /// it has, both in the precision of the file; none where no file was exported.
    pub export: Option<f64>,
}

impl Differences {
    /// Reads `verification.json` of an artifact, and refuses what should not have been saved.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let differences: Self = serde_json::from_value(read_json(path)?)
            .map_err(|source| refused(path, source.into()))?;
        if differences.extraction.passed() {
            return Ok(differences);
        }
        let difference = differences.extraction.max_abs_logit_difference();
        let allowed = differences.extraction.allowed();
        Err(refused(path, ArtifactError::Unverified { difference, allowed }))
    }
}

/// Largest difference of a logit between a network and its copy with rounded weights, in f32.
pub(super) fn of_rounding<A: Architecture>(
    exact: &Subnet<A>,
    rounded: &Subnet<A>,
    images: &Tensor,
) -> Result<f64> {
    if rounded.precision() == exact.precision() {
        return Ok(0.0);
    }
    let (architecture, device) = (rounded.architecture().clone(), rounded.device());
    let widened = Subnet::new(architecture, rounded.weights(), device)?;
    Ok(difference(&exact.predict(images)?, &widened.predict(images)?)?.0)
}
