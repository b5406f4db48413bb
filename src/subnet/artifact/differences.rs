//! `verification.json`: the measured differences of logits.

use super::{read_json, refused, ARTIFACT, VERIFICATION};
use crate::error::{ArtifactError, During};
use crate::files::read_folder;
use crate::models::Architecture;
use crate::subnet::verify::difference;
use crate::subnet::{Precision, Subnet, Verification};
use crate::{Error, Result};
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
    /// both computed in f32; 0 for weights stored as f32. That of an earlier rounding is added
    /// ([`Export::rounded_before`](super::Export::rounded_before)).
    pub rounding: f64,
    /// Largest absolute difference of a logit between the TorchScript file and the subnet, both in
    /// the precision of the file; `None` if no file was exported.
    pub export: Option<f64>,
}

impl Differences {
    /// Reads the differences of an artifact, and checks that the verification has passed. Only
    /// [`Description::read`](super::Description::read) checks the whole artifact.
    ///
    /// # Errors
    /// [`Error::Artifact`] with what is wrong with `verification.json`; [`Error::Io`] if it is missing or cannot be read.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        read_folder(folder.as_ref(), &ARTIFACT, |folder| {
            Self::read_file(&folder.join(VERIFICATION))
        })
    }

    pub(super) fn read_file(path: &Path) -> Result<Self> {
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

/// Images that a network in half precision is tried on: on a CPU it is slow.
const TRIED: i64 = 4;

/// Refuses a network in half precision whose logits are not finite where those of f32 are: a sum within it
/// may be larger than the largest number of f16. A network that does not compute in half precision, such as one with f32
/// constants of its own, is saved for those that load its weights in f32.
///
/// # Errors
/// [`Error::Invalid`] naming the precision; [`Error::Torch`] if the network fails for another reason than types that do
/// not fit.
pub(super) fn expect_finite<A: Architecture>(stored: &Subnet<A>, images: &Tensor) -> Result<()> {
    let precision = stored.precision();
    if precision == Precision::F32 {
        return Ok(());
    }
    let images = images.f_narrow(0, 0, images.size()[0].min(TRIED))?;
    let logits = match stored.predict(&images) {
        Err(Error::Torch { source, .. }) if mixes_types(&source.to_string()) => return Ok(()),
        logits => logits.during("trying the network in half precision before it is saved")?,
    };
    if logits.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0 {
        return Ok(());
    }
    let expected =
        "one in which the logits of the verification's images are finite; save bf16 or f32";
    Err(Error::invalid("precision of the saved weights", expected, precision.name()))
}

/// Parts of libtorch's messages about tensors of two types, a number that half precision does not have, and an operation
/// that it does not have in half precision.
const MIXED_TYPES: [&str; 6] = [
    "dtype",
    "scalar type",
    "Input type",
    "result type",
    "cannot be converted to type",
    "not implemented for",
];

/// Whether libtorch refused tensors of two types, or has no such operation in half precision. Only the first line is
/// its message; a trace of calls follows. An error of CUDA has the failed call in it, with its arguments.
fn mixes_types(message: &str) -> bool {
    let message = message.lines().next().unwrap_or_default();
    !message.contains("CUDA error") && MIXED_TYPES.iter().any(|part| message.contains(part))
}

/// Returns the largest absolute difference of a logit between a network and its copy with rounded
/// weights, both computed in f32.
pub(super) fn of_rounding<A: Architecture>(
    exact: &Subnet<A>,
    rounded: &Subnet<A>,
    images: &Tensor,
) -> Result<f64> {
    if rounded.precision() == exact.precision() {
        return Ok(0.0);
    }
    Ok(difference(&logits_in_f32(exact, images)?, &logits_in_f32(rounded, images)?)?.0)
}

/// Returns the logits of a network with its weights widened to f32.
fn logits_in_f32<A: Architecture>(network: &Subnet<A>, images: &Tensor) -> Result<Tensor> {
    if network.precision() == Precision::F32 {
        return network.predict(images);
    }
    let (architecture, device) = (network.architecture().clone(), network.device());
    Subnet::new(architecture, network.weights(), device)?.predict(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_about_types_is_told_from_other_failures() {
        for message in [
            "expected m1 and m2 to have the same dtype, but got: float != c10::Half",
            "mixed dtype (CPU): expect parameter to have scalar type of Float",
            "\"addmm_impl_cpu_\" not implemented for 'Half'",
            "expected scalar type Half but found Float",
            "Input type (float) and bias type (c10::Half) should be the same",
            "result type Float can't be cast to the desired output type Half",
            "value cannot be converted to type at::Half without overflow",
        ] {
            assert!(mixes_types(message), "{message}");
        }
        for message in [
            "CUDA out of memory. Tried to allocate 2.00 GiB\nframe #0: at::TensorOptions::dtype",
            "Expected all tensors to be on the same device, but found at least two devices",
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, opb, compute_type)`",
            "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul` with dtype CUDA_R_16F",
        ] {
            assert!(!mixes_types(message), "{message}");
        }
    }
}
