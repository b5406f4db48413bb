//! Importance scores: learned by gradient, or computed from weights or gradients.

use super::magnitude::{magnitude, standardised};
use super::ComponentId;
use crate::range::{Range, PART};
use crate::space::Dimension;
use crate::tensors::Weights;
use crate::Result;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// One dimension after the backward pass of a step. All tensors are on the search's device.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// Dimension with its present candidates, and the bindings of variables that were not removed with a branch. Constants,
    /// such as rotary frequencies, have no binding here: variables that the network is built not to learn and that no gate
    /// multiplies.
    pub dimension: &'a Dimension,
    /// Scores s in the step, `[heads, channels]`.
    pub score: &'a Tensor,
    /// Weights θ by variable name, without gates.
    pub weights: &'a Weights,
    /// Gate m of every unit in the step, `[heads, channels]`.
    pub gate: &'a Tensor,
    /// Gradient ∂L/∂m of task and reconstruction loss, `[heads, channels]`.
    pub gate_gradient: &'a Tensor,
}

/// Importance score s of every unit of a dimension: S = σ(s), and units are ranked by s.
///
/// Implement [`initial`](Self::initial) alone for scores that the optimiser learns from there.
/// Implement [`update`](Self::update) too for scores that are computed after every step. A running
/// mean needs no state of its own: the present scores are passed to `update`, and the search stores
/// them in checkpoints and slices them when it prunes.
pub trait Importance: Any + Debug + Send + Sync {
    /// Name and parameters; a checkpoint stores them, and a resume with another id is refused. The names of
    /// this crate's own are refused when the search is built.
    fn id(&self) -> ComponentId;

    /// Checks the parameters; called when the search is built.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming the parameter.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Returns the scores before the first step, `[heads, channels]`, f32. The dimension has no bindings of constants
    /// ([`Observation::dimension`]).
    ///
    /// # Errors
    /// [`Error::UnknownVariable`](crate::Error::UnknownVariable) if a weight is missing.
    fn initial(&self, dimension: &Dimension, weights: &Weights) -> Result<Tensor>;

    /// Returns the scores after a step, `[heads, channels]`, or `None` if the optimiser updates
    /// them. Called after every step until the dimension is decided, or all its weights are removed with a branch; it
    /// must not copy tensors to the host, which would stall the device.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::Error::Torch) if libtorch fails.
    fn update(&self, _seen: Observation) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// Mean of scores.
const MEAN: Range<f64> = Range::closed(-1e6, 1e6);
/// Standard deviation of scores.
const STD: Range<f64> = Range::closed(0.0, 1e6);

/// Built-in implementations of [`Importance`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum UnitImportance {
    /// Learned by gradient; initial scores are normal with mean 0 and std 0.2 (paper).
    Learned,
    /// Learned by gradient; initial scores are s = mean + std·z, with z the units' standardised
    /// log-norms in the weights ([`magnitude`]).
    LearnedFromMagnitude {
        /// Mean of the initial scores; at 2, S = σ(2) ≈ 0.88.
        mean: f64,
        /// Standard deviation of the initial scores.
        std: f64,
    },
    /// s = mean + std·z, with z from the weights after every step ([`magnitude`]); not learned.
    Magnitude {
        /// Mean of the scores.
        mean: f64,
        /// Standard deviation of the scores.
        std: f64,
    },
    /// First-order Taylor importance I = |m·∂L/∂m| of the gate m (Molchanov et al. 2019): s ← momentum·s +
    /// (1 − momentum)·(mean + std·z), with z the standardised ln I. Not learned.
    Taylor {
        /// Mean of the scores.
        mean: f64,
        /// Standard deviation of the scores.
        std: f64,
        /// Share of the old score in the new one, in [0, 1).
        momentum: f64,
    },
    /// s = mean + std·z, with z drawn once from a standard normal and never updated: the random
    /// baseline.
    Random {
        /// Mean of the scores.
        mean: f64,
        /// Standard deviation of the scores.
        std: f64,
    },
}

impl UnitImportance {
    /// Names in its ids.
    pub(crate) const NAMES: [&'static str; 5] =
        ["learned", "learned_from_magnitude", "magnitude", "taylor", "random"];
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
        MEAN.check("importance.mean", mean)?;
        STD.check("importance.std", std)?;
        match *self {
            Self::Taylor { momentum, .. } => PART.check("importance.momentum", momentum),
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
