//! `verification.json`: the measured differences of logits.

use super::{read_json, refused};
use crate::error::ArtifactError;
use crate::models::Architecture;
use crate::subnet::verify::difference;
use crate::subnet::{Subnet, Verification};
use crate::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::Tensor;

/// Measured differences of logits: by extraction, by rounding, by export.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    /// Difference between the subnet and the masked network, both in f32.
    #[serde(flatten)]
    pub extraction: Verification,
    /// Largest absolute difference of a logit between the subnet and its copy with rounded weights,
    /// both computed in f32; 0 for weights stored as f32.
    pub rounding: f64,
    /// Largest absolute difference of a logit between the TorchScript file and the subnet, both in
    /// the precision of the file; `None` if no file was exported.
    pub export: Option<f64>,
}

impl Differences {
    /// Reads `verification.json` of an artifact, and checks that the verification has passed.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let differences: Self = crate::typed::from_value(read_json(path)?)
            .map_err(|fault| refused(path, ArtifactError::Json(fault.into())))?;
        if differences.extraction.passed() {
            return Ok(differences);
        }
        let difference = differences.extraction.max_abs_logit_difference();
        let allowed = differences.extraction.allowed();
        Err(refused(path, ArtifactError::Unverified { difference, allowed }))
    }
}

/// Returns the largest absolute difference of a logit between a network and its copy with rounded
/// weights, computed in f32.
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
