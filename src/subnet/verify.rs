//! The extracted network is the masked one, measured.

use super::Subnet;
use crate::models::{Architecture, Network};
use crate::supernet::Supernet;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How far extracted and masked network are apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Largest difference of a logit on random images.
    pub random_images: f64,
    /// Largest difference of a logit on the given images.
    pub real_images: f64,
    /// Largest logit of the masked network.
    pub logit_scale: f64,
    /// What is allowed, as a share of that.
    pub tolerance: f64,
}

impl Verification {
    /// Largest difference of a logit; NaN if one of the two is.
    pub fn max_abs_logit_difference(&self) -> f64 {
        // Not `f64::max`, which passes over a NaN.
        match self.random_images > self.real_images || self.random_images.is_nan() {
            true => self.random_images,
            false => self.real_images,
        }
    }

    /// What a logit may differ by: the tolerance, times the largest logit. A larger tolerance than
    /// [`verify`]'s is not believed, whoever wrote it.
    pub fn allowed(&self) -> f64 {
        self.tolerance.min(TOLERANCE) * self.logit_scale
    }

    /// Whether both differences are finite and allowed.
    pub fn passed(&self) -> bool {
        within(self.max_abs_logit_difference(), self.allowed())
    }

    /// Refuses one that has not [passed](Self::passed).
    ///
    /// # Errors
    /// [`Error::Verification`] with both values.
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

/// What is allowed between two f32 networks that differ by zeros only, as a share of the
/// largest logit.
pub(super) const TOLERANCE: f64 = 1e-5;

/// Compares the subnet with the masked network: attention and hidden dimensions at their dense
/// sizes again, the gates of all dropped units at zero. (Embedding channels cannot come back:
/// LayerNorm would see them.)
///
/// A network that cannot be built at other sizes is its own masked network, as of the last
/// [`Supernet::materialise`].
///
/// # Errors
/// [`Error::Verification`] with both values, and the part of the network where the difference
/// begins, if they differ by more than 1e-5 of the logits' scale, or a logit is not finite.
pub fn verify<A: Architecture, B: Architecture>(
    supernet: &Supernet<A>,
    subnet: &Subnet<B>,
    images: &Tensor,
) -> Result<Verification> {
    if !supernet.shrinks() {
        let (verification, _) = measure(|images| supernet.network_logits(images), subnet, images)?;
        return verification.check().map(|()| verification);
    }
    let (architecture, weights) = supernet.masked_network()?;
    verify_against(&Subnet::new(architecture, &weights, supernet.device())?, subnet, images)
}

/// Compares the subnet with any network that should compute the same.
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

/// The differences, and the random images they were measured on.
fn measure<B: Architecture>(
    masked: impl Fn(&Tensor) -> Result<Tensor>,
    subnet: &Subnet<B>,
    images: &Tensor,
) -> Result<(Verification, Tensor)> {
    let random = Tensor::f_randn_like(&images.f_to_kind(Kind::Float)?)?;
    let compare = |images| difference(&masked(images)?, &subnet.predict(images)?);
    let (random_images, first) = compare(&random)?;
    let (real_images, second) = compare(images)?;
    let logit_scale = first.max(second);
    Ok((Verification { random_images, real_images, logit_scale, tolerance: TOLERANCE }, random))
}

/// Largest difference, and largest of the expected numbers.
pub(super) fn difference(expected: &Tensor, actual: &Tensor) -> Result<(f64, f64)> {
    let largest = |tensor: &Tensor| tensor.f_abs()?.f_max()?.f_double_value(&[]);
    Ok((largest(&actual.f_sub(expected)?)?, largest(expected)?))
}

/// Written so that a NaN fails.
pub(super) fn within(difference: f64, allowed: f64) -> bool {
    difference <= allowed && difference.is_finite()
}

/// The first part of the network whose output is more than the tolerance away, as a share of its
/// own scale.
fn begins<A: Architecture, B: Architecture>(
    masked: &Subnet<A>,
    subnet: &Subnet<B>,
    images: &Tensor,
) -> Result<Option<String>> {
    let pairs = trace(masked, images)?.into_iter().zip(trace(subnet, images)?);
    for ((name, expected), (other, actual)) in pairs {
        if other != name {
            // Two families: what belongs to what is not known.
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

fn trace<A: Architecture>(network: &Subnet<A>, images: &Tensor) -> Result<Vec<(String, Tensor)>> {
    let images = images.f_to_kind(network.precision().kind())?;
    tch::no_grad(|| network.network().trace(&images))
}
