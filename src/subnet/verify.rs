//! Verification: the measured difference of the logits of subnet and masked network.

use super::Subnet;
use crate::batch::check_images;
use crate::error::expect_shape;
use crate::models::{Architecture, Network};
use crate::supernet::Supernet;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Measured difference of the logits of subnet and masked network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Largest absolute difference of a logit on random images.
    pub random_images: f64,
    /// Largest absolute difference of a logit on the calibration batch.
    pub real_images: f64,
    /// Largest absolute logit of the masked network.
    pub logit_scale: f64,
    /// Allowed difference as a share of `logit_scale`.
    pub tolerance: f64,
}

impl Verification {
    /// Returns the larger of both differences; NaN if one of them is.
    pub fn max_abs_logit_difference(&self) -> f64 {
        larger(self.random_images, self.real_images)
    }

    /// Returns the allowed difference of a logit: tolerance · logit_scale. The tolerance counts as at
    /// most 1e-5, that of [`verify`].
    pub fn allowed(&self) -> f64 {
        self.tolerance.min(TOLERANCE) * self.logit_scale
    }

    /// Returns whether both differences are finite and at most [`allowed`](Self::allowed).
    pub fn passed(&self) -> bool {
        within(self.max_abs_logit_difference(), self.allowed())
    }

    /// Checks that the verification has [passed](Self::passed).
    ///
    /// # Errors
    /// [`Error::Verification`] with the measured and the allowed difference if it has not.
    pub fn check(&self) -> Result<()> {
        if self.passed() {
            return Ok(());
        }
        Err(self.failure(None, None))
    }

    fn failure(&self, begins: Option<String>, device: Option<Device>) -> Error {
        let tf32 = std::env::var(TF32);
        let advice = device.and_then(|device| advice(device, tf32.as_deref().ok()));
        Error::Verification {
            what: "the extracted network",
            reference: "the masked one",
            difference: self.max_abs_logit_difference(),
            allowed: self.allowed(),
            begins,
            advice,
        }
    }
}

/// Variable that lets libtorch compute matrix products of f32 on a card in TF32.
const TF32: &str = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE";

/// Returns what to do where matrix products are computed in TF32: its rounding exceeds the tolerance.
fn advice(device: Device, tf32: Option<&str>) -> Option<&'static str> {
    let advice = "unset TORCH_ALLOW_TF32_CUBLAS_OVERRIDE: TF32 rounds more than is allowed; \
                  a search resumes from its last checkpoint";
    (device.is_cuda() && tf32 == Some("1")).then_some(advice)
}

/// Allowed difference between two f32 networks, as a share of the largest logit.
pub(super) const TOLERANCE: f64 = 1e-5;

/// Compares the logits of the subnet with those of the masked network, on `images` and on random
/// images of the same shape.
///
/// The masked network has the attention and hidden dimensions at their dense sizes, with the gates of
/// pruned units at zero. Its embedding has the decided size, because LayerNorm would compute other
/// means and variances over restored channels. For a supernet that cannot be built at other sizes it
/// is the network itself, as of the last [`Supernet::materialise`].
///
/// # Shapes
/// `images`: a calibration batch, `[B, C, H, W]`.
///
/// # Errors
/// [`Error::Verification`] with the measured and the allowed difference, and the first part of the
/// network whose output differs, if a logit differs by more than 1e-5 of the largest logit, or is not
/// finite; [`Error::Invalid`] for no images, and for images on another device or not of floating point;
/// [`Error::Shape`] for logits of different shapes.
pub fn verify<A: Architecture, B: Architecture>(
    supernet: &Supernet<A>,
    subnet: &Subnet<B>,
    images: &Tensor,
) -> Result<Verification> {
    if !supernet.can_narrow() {
        let (verification, _) = measure(|images| supernet.network_logits(images), subnet, images)?;
        return match verification.passed() {
            true => Ok(verification),
            false => Err(verification.failure(None, Some(supernet.device()))),
        };
    }
    let (architecture, weights) = supernet.masked_network()?;
    verify_against(&Subnet::new(architecture, &weights, supernet.device())?, subnet, images)
}

/// Compares the logits of the subnet with those of any network that should compute the same.
///
/// # Shapes
/// `images`: a calibration batch, `[B, C, H, W]`.
///
/// # Errors
/// Those of [`verify`].
pub fn verify_against<A: Architecture, B: Architecture>(
    masked: &Subnet<A>,
    subnet: &Subnet<B>,
    images: &Tensor,
) -> Result<Verification> {
    let (verification, random) = measure(|images| masked.predict(images), subnet, images)?;
    if verification.passed() {
        return Ok(verification);
    }
    let worse =
        if within(verification.random_images, verification.allowed()) { images } else { &random };
    Err(verification.failure(begins(masked, subnet, worse)?, Some(subnet.device())))
}

/// Returns the verification, and its random images.
fn measure<B: Architecture>(
    masked: impl Fn(&Tensor) -> Result<Tensor>,
    subnet: &Subnet<B>,
    images: &Tensor,
) -> Result<(Verification, Tensor)> {
    expect_images(images, subnet.device())?;
    let random = Tensor::f_randn_like(&images.f_to_kind(Kind::Float)?)?;
    let compare = |images| difference(&masked(images)?, &subnet.predict(images)?);
    let (random_images, first) = compare(&random)?;
    let (real_images, second) = compare(images)?;
    let logit_scale = larger(first, second);
    Ok((Verification { random_images, real_images, logit_scale, tolerance: TOLERANCE }, random))
}

/// Refuses images on another device or not normalised; and what is no image, or has no pixel: there would be no logit
/// to compare.
pub(super) fn expect_images(images: &Tensor, device: Device) -> Result<()> {
    check_images(images, device)?;
    if images.dim() == 4 && images.numel() > 0 {
        return Ok(());
    }
    let (name, expected) = ("images of the verification", "[B, C, H, W] of at least one image");
    Err(Error::invalid(name, expected, format!("{:?}", images.size())))
}

/// Returns the largest absolute difference, and the largest absolute expected number.
///
/// # Errors
/// [`Error::Shape`] for tensors of different shapes.
pub(super) fn difference(expected: &Tensor, actual: &Tensor) -> Result<(f64, f64)> {
    expect_shape("compare outputs", "logits", actual, &expected.size())?;
    let largest = |tensor: &Tensor| tensor.f_abs()?.f_max()?.f_double_value(&[]);
    Ok((largest(&actual.f_sub(expected)?)?, largest(expected)?))
}

/// Returns the larger number; NaN if one of them is, which `f64::max` would ignore.
fn larger(left: f64, right: f64) -> f64 {
    match left > right || left.is_nan() {
        true => left,
        false => right,
    }
}

/// Returns whether a difference is finite and at most `allowed`; false for NaN.
pub(super) fn within(difference: f64, allowed: f64) -> bool {
    difference <= allowed && difference.is_finite()
}

/// Returns the name of the first part of the network whose output differs by more than the tolerance
/// times its largest entry; `None` if there is none, or if the two families name their parts
/// differently.
fn begins<A: Architecture, B: Architecture>(
    masked: &Subnet<A>,
    subnet: &Subnet<B>,
    images: &Tensor,
) -> Result<Option<String>> {
    let pairs = trace(masked, images)?.into_iter().zip(trace(subnet, images)?);
    for ((name, expected), (other, actual)) in pairs {
        if other != name {
            return Ok(None);
        }
        if expected.size() != actual.size() {
            return Ok(Some(name));
        }
        let (difference, scale) = difference(&expected, &actual)?;
        if !within(difference, TOLERANCE * scale) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Returns the output of every part of the network, by name.
fn trace<A: Architecture>(network: &Subnet<A>, images: &Tensor) -> Result<Vec<(String, Tensor)>> {
    let images = images.f_to_kind(network.precision().kind())?;
    crate::autograd::no_grad(|| network.network().trace(&images))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_of_another_shape_are_refused_where_they_would_be_broadcast() -> Result<()> {
        let [expected, actual] = [&[2, 7][..], &[1, 2, 7]]
            .map(|shape| Tensor::f_zeros(shape, (Kind::Float, Device::Cpu)));
        let refused = difference(&expected?, &actual?);
        assert!(matches!(refused, Err(Error::Shape { ref expected, ref actual, .. })
            if expected[..] == [2, 7] && actual[..] == [1, 2, 7]));
        Ok(())
    }

    #[test]
    fn advice_of_a_failed_verification_names_tf32_only_on_a_card_that_computes_in_it() {
        for (device, tf32, named) in [
            (Device::Cuda(0), Some("1"), true),
            (Device::Cuda(0), Some("0"), false),
            (Device::Cuda(0), None, false),
            (Device::Cpu, Some("1"), false),
        ] {
            let advice = advice(device, tf32);
            assert_eq!(advice.is_some_and(|own| own.contains(TF32)), named, "{device:?} {tf32:?}");
        }
    }
}
