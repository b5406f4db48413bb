//! Task loss: cross-entropy on class indices or class probabilities.

use crate::batch::Targets;
use crate::Result;
use tch::{Reduction, Tensor};

/// Returns the mean cross-entropy of logits and targets, with label smoothing in [0, 1).
///
/// # Shapes
/// `logits`: `[B, classes]`. Result: scalar.
///
/// # Errors
/// [`crate::Error::Torch`] if the batch sizes or numbers of classes differ.
pub fn task_loss(logits: &Tensor, targets: &Targets, label_smoothing: f64) -> Result<Tensor> {
    let (Targets::Classes(target) | Targets::Probabilities(target)) = targets;
    let weight: Option<Tensor> = None;
    Ok(logits.f_cross_entropy_loss(target, weight, Reduction::Mean, -100, label_smoothing)?)
}
