//! What one step computes.

use crate::supernet::Weights;
use crate::Result;
use tch::Tensor;

/// What one step has computed, before anything moves.
#[derive(Debug)]
pub struct StepGradients {
    /// Gradients by parameter name, before clipping.
    pub parameters: Weights,
    /// The gates of every dimension, `[heads, channels]`.
    pub gates: Vec<Tensor>,
    /// Gradients of task and reconstruction in the gates, shaped like them.
    pub gate_gradients: Vec<Tensor>,
    /// The losses.
    pub losses: StepLosses,
}

/// Losses of one step, still on the device.
#[derive(Debug)]
pub struct StepLosses {
    /// Cross-entropy of the last micro-batch.
    pub task: Tensor,
    /// Reconstruction loss of the last micro-batch, before its weight, where tokens were hidden.
    pub reconstruction: Option<Tensor>,
    /// Σ over undecided dimensions of weight × one-hot loss.
    pub one_hot: Tensor,
    /// Budget loss.
    pub budget: Tensor,
}

impl StepLosses {
    /// All of them: finite if each is.
    pub(super) fn sum(&self) -> Result<Tensor> {
        let sum = self.task.f_add(&self.one_hot)?.f_add(&self.budget)?;
        match &self.reconstruction {
            None => Ok(sum),
            Some(reconstruction) => Ok(sum.f_add(reconstruction)?),
        }
    }
}
