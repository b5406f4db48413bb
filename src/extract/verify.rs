//! The extracted network is the masked one, measured.

use super::Subnet;
use crate::models::Architecture;
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
    /// Largest difference of a logit.
    pub fn max_abs_logit_difference(&self) -> f64 {
        self.random_images.max(self.real_images)
    }
}

/// What is allowed between two f32 networks that differ by zeros only, as a share of the
/// largest logit.
const TOLERANCE: f64 = 1e-5;

/// Compares the subnet with the masked network: attention and hidden dimensions at their dense
/// sizes again, the gates of all dropped units at zero. (Embedding channels cannot come back:
/// LayerNorm would see them.)
///
/// A network that cannot be built at other sizes is its own masked network, as of the last
/// [`Supernet::materialise`].
///
/// # Errors
/// [`Error::Verification`] with both values if they differ by more than 1e-5 of the logits'
/// scale, or a logit is not finite.
pub fn verify<A: Architecture, B: Architecture>(
    supernet: &Supernet<A>,
    subnet: &Subnet<B>,
    images: &Tensor,
) -> Result<Verification> {
    let rebuilt = match supernet.shrinks() {
        false => None,
        true => {
            let (architecture, weights) = supernet.masked_network()?;
            Some(Subnet::new(architecture, &weights, supernet.device())?)
        }
    };
    let masked = |images: &Tensor| match &rebuilt {
        Some(network) => network.predict(images),
        None => supernet.network_logits(images),
    };
    let random = Tensor::f_randn_like(&images.f_to_kind(Kind::Float)?)?;
    let (random_images, first) = compare(masked(&random)?, subnet.predict(&random)?)?;
    let (real_images, second) = compare(masked(images)?, subnet.predict(images)?)?;
    let logit_scale = first.max(second);
    let verification =
        Verification { random_images, real_images, logit_scale, tolerance: TOLERANCE };
    let difference = verification.max_abs_logit_difference();
    let allowed = TOLERANCE * logit_scale;
    // Written so that a NaN fails.
    if difference <= allowed && random_images.is_finite() && real_images.is_finite() {
        return Ok(verification);
    }
    Err(Error::Verification { difference, allowed })
}

/// Largest difference of a logit, and largest logit.
fn compare(expected: Tensor, actual: Tensor) -> Result<(f64, f64)> {
    let largest = |tensor: &Tensor| tensor.f_abs()?.f_max()?.f_double_value(&[]);
    Ok((largest(&actual.f_sub(&expected)?)?, largest(&expected)?))
}
