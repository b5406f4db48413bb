//! Where scores come from: learned by gradient, or told by the network.

use super::magnitude::{magnitude, standardised};
use super::ComponentId;
use crate::space::Dimension;
use crate::tensors::Weights;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// One dimension after a step, as an importance sees it. Everything is on the device.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The dimension, at its present candidates.
    pub dimension: &'a Dimension,
    /// Scores of the step, `[heads, channels]`.
    pub score: &'a Tensor,
    /// Weights of the network by name, before their gates (θ).
    pub weights: &'a Weights,
    /// The gate m of every unit in the step, `[heads, channels]`.
    pub gate: &'a Tensor,
    /// The gradient of task and reconstruction in the gate, `[heads, channels]`.
    pub gate_gradient: &'a Tensor,
}

/// The scores of a dimension's units. S is σ(score); ranks follow the score.
///
/// Implement [`initial`](Self::initial) alone for scores that are learned from there, and
/// [`update`](Self::update) too for scores that come from somewhere else. A running mean needs no
/// state of its own: the present scores are handed in, and they are saved and narrowed with the
/// search.
pub trait Importance: Debug + Send + Sync {
    /// Name and parameters, by which a checkpoint recognises the component.
    fn id(&self) -> ComponentId;

    /// Refuses parameters out of range; called before the first step.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the parameter.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Scores before the first step, `[heads, channels]`, f32.
    ///
    /// # Errors
    /// [`Error::UnknownVariable`] if a weight is missing.
    fn initial(&self, dimension: &Dimension, weights: &Weights) -> Result<Tensor>;

    /// Scores after a step, `[heads, channels]`, or `None` where the optimiser moves them. Asked
    /// until the dimension is decided; must not read from the device.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch refuses.
    fn update(&self, _seen: Observation) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// Importances that are ready to use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum UnitImportance {
    /// Learned by gradient from a normal of std 0.2 around 0 (the paper): the weights have no say.
    Learned,
    /// Learned by gradient from `mean + std · z`, z the units' standardised log-norms in the
    /// weights ([`magnitude`]).
    LearnedFromMagnitude {
        /// Mean of the scores. Around 2, S starts near 0.9 and gates begin close to 1.
        mean: f64,
        /// Spread of the scores.
        std: f64,
    },
    /// `mean + std · z` of the weights as they move, never learned.
    Magnitude {
        /// Mean of the scores.
        mean: f64,
        /// Spread of the scores.
        std: f64,
    },
    /// First-order Taylor: how much the loss would change without the unit, |m · ∂L/∂m|
    /// (Molchanov et al. 2019), as `mean + std · z` of its logarithm, in a running mean.
    Taylor {
        /// Mean of the scores.
        mean: f64,
        /// Spread of the scores.
        std: f64,
        /// Share of the old score in the new one, in [0, 1).
        momentum: f64,
    },
    /// `mean + std · z` with z drawn at random and kept: the baseline that knows nothing.
    Random {
        /// Mean of the scores.
        mean: f64,
        /// Spread of the scores.
        std: f64,
    },
}

impl Importance for UnitImportance {
    fn id(&self) -> ComponentId {
        let scaled =
            |name, mean: f64, std: f64| ComponentId::new(name).with("mean", mean).with("std", std);
        match *self {
            Self::Learned => ComponentId::new("learned"),
            Self::LearnedFromMagnitude { mean, std } => scaled("learned_from_magnitude", mean, std),
            Self::Magnitude { mean, std } => scaled("magnitude", mean, std),
            Self::Taylor { mean, std, momentum } => {
                scaled("taylor", mean, std).with("momentum", momentum)
            }
            Self::Random { mean, std } => scaled("random", mean, std),
        }
    }

    fn check(&self) -> Result<()> {
        let (Self::LearnedFromMagnitude { mean, std }
        | Self::Magnitude { mean, std }
        | Self::Taylor { mean, std, .. }
        | Self::Random { mean, std }) = *self
        else {
            return Ok(());
        };
        if !mean.is_finite() {
            return Err(Error::invalid("importance.mean", "finite", mean));
        }
        if !(std.is_finite() && std >= 0.0) {
            return Err(Error::invalid("importance.std", "finite and not negative", std));
        }
        match *self {
            Self::Taylor { momentum, .. } if !(0.0..1.0).contains(&momentum) => {
                Err(Error::invalid("importance.momentum", "within [0, 1)", momentum))
            }
            _ => Ok(()),
        }
    }

    fn initial(&self, dimension: &Dimension, weights: &Weights) -> Result<Tensor> {
        let normal = || -> Result<Tensor> {
            let device = weights.values().next().map_or(tch::Device::Cpu, Tensor::device);
            Ok(Tensor::f_randn(dimension.candidates.unit_shape(), (Kind::Float, device))?)
        };
        match *self {
            Self::Learned => Ok(normal()?.f_mul_scalar(0.2)?),
            Self::LearnedFromMagnitude { mean, std }
            | Self::Magnitude { mean, std }
            | Self::Taylor { mean, std, .. } => scaled(&magnitude(dimension, weights)?, mean, std),
            Self::Random { mean, std } => scaled(&normal()?, mean, std),
        }
    }

    fn update(&self, seen: Observation) -> Result<Option<Tensor>> {
        match *self {
            Self::Learned | Self::LearnedFromMagnitude { .. } => Ok(None),
            Self::Random { .. } => Ok(Some(seen.score.f_detach()?)),
            Self::Magnitude { mean, std } => {
                Ok(Some(scaled(&magnitude(seen.dimension, seen.weights)?, mean, std)?))
            }
            Self::Taylor { mean, std, momentum } => {
                let change = seen.gate.f_mul(seen.gate_gradient)?.f_abs()?;
                let z = standardised(&change.f_add_scalar(1e-20)?.f_log()?)?;
                Ok(Some(scaled(&z, mean, std)?.f_lerp(&seen.score.f_detach()?, momentum)?))
            }
        }
    }
}

fn scaled(z: &Tensor, mean: f64, std: f64) -> Result<Tensor> {
    Ok(z.f_mul_scalar(std)?.f_add_scalar(mean)?)
}
