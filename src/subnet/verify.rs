//! Verification: the measured difference of the logits of subnet and masked network.

use super::Subnet;
use crate::models::{Architecture, Network};
use crate::supernet::Supernet;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

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
        Err(self.failure(None))
    }

    fn failure(&self, begins: Option<String>) -> Error {
        Error::Verification {
            what: "the extracted network",
            reference: "the masked one",
            difference: self.max_abs_logit_difference(),
            allowed: self.allowed(),
            begins,
        }
    }
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
/// finite; [`Error::Invalid`] for no images.
pub fn verify<A: Architecture, B: Architecture>(
    supernet: &Supernet<A>,
    subnet: &Subnet<B>,
    images: &Tensor,
) -> Result<Verification> {
    if !supernet.can_narrow() {
        let (verification, _) = measure(|images| supernet.network_logits(images), subnet, images)?;
        return verification.check().map(|()| verification);
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
    Err(verification.failure(begins(masked, subnet, worse)?))
}

/// Returns the verification, and its random images.
fn measure<B: Architecture>(
    masked: impl Fn(&Tensor) -> Result<Tensor>,
    subnet: &Subnet<B>,
    images: &Tensor,
) -> Result<(Verification, Tensor)> {
    expect_images(images)?;
    let random = Tensor::f_randn_like(&images.f_to_kind(Kind::Float)?)?;
    let compare = |images| difference(&masked(images)?, &subnet.predict(images)?);
    let (random_images, first) = compare(&random)?;
    let (real_images, second) = compare(images)?;
    let logit_scale = larger(first, second);
    Ok((Verification { random_images, real_images, logit_scale, tolerance: TOLERANCE }, random))
}

/// Refuses what is no image, or has no pixel: there would be no logit to compare.
pub(super) fn expect_images(images: &Tensor) -> Result<()> {
    if images.dim() == 4 && images.numel() > 0 {
        return Ok(());
    }
    let (name, expected) = ("images of the verification", "[B, C, H, W] of at least one image");
    Err(Error::invalid(name, expected, format!("{:?}", images.size())))
}

/// Returns the largest absolute difference, and the largest absolute expected number.
pub(super) fn difference(expected: &Tensor, actual: &Tensor) -> Result<(f64, f64)> {
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
