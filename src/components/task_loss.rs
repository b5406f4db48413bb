//! The task: cross-entropy on hard or soft targets.

use crate::batch::Targets;
use crate::Result;
use tch::{Reduction, Tensor};

/// Mean cross-entropy of `logits`, `[B, classes]`.
///
/// # Errors
/// [`crate::Error::Torch`] if batch or classes differ.
pub fn task_loss(logits: &Tensor, targets: &Targets, label_smoothing: f64) -> Result<Tensor> {
    let (Targets::Classes(target) | Targets::Probabilities(target)) = targets;
    let weight: Option<Tensor> = None;
    Ok(logits.f_cross_entropy_loss(target, weight, Reduction::Mean, -100, label_smoothing)?)
}
