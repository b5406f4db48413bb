//! Classification: cross-entropy on class indices or class probabilities.

use super::{kind_of, Task, TaskInputs};
use crate::batch::Targets;
use crate::components::ComponentId;
use crate::error::expect_shape;
use crate::{Error, Result};
use tch::{Device, Kind, Reduction, Tensor};

/// Classification of images: cross-entropy of logits and hard or soft targets, with the label smoothing of
/// the training options. The default task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Classification;

impl Classification {
    /// Name in its id.
    pub(crate) const NAME: &'static str = "classification";
}

impl Task for Classification {
    fn id(&self) -> ComponentId {
        ComponentId::new(Self::NAME)
    }

    fn losses(&self, inputs: &TaskInputs) -> Result<Tensor> {
        let (logits, targets) = (inputs.outputs, &inputs.batch.targets);
        checked_apart(logits, targets, inputs.label_smoothing, Reduction::None)
    }

    fn loss(&self, inputs: &TaskInputs) -> Result<Tensor> {
        let (logits, targets) = (inputs.outputs, &inputs.batch.targets);
        checked_apart(logits, targets, inputs.label_smoothing, Reduction::Mean)
    }

    fn class_index_flag(&self, inputs: &TaskInputs) -> Result<Option<Tensor>> {
        let [_, classes] = expect_logits(inputs.outputs)?;
        class_index_flag(classes, &inputs.batch.targets)
    }
}

/// Returns the cross-entropy of logits and targets, with label smoothing in [0, 1).
///
/// Class indices on the CPU are checked. On another device a check would wait for the device: the loss of an
/// image whose index is out of range is NaN there, and so are mean and sum. A
/// [`Search`](crate::search::Search) skips such a step, and names it at the next logged one.
///
/// # Shapes
/// `logits`: `[B, classes]`. Result: scalar for `Reduction::Mean`, `[B]` for `Reduction::None`.
///
/// # Errors
/// [`Error::Shape`] if the batch sizes or numbers of classes differ; [`Error::Invalid`] for a class
/// index out of range, images without labels, or a network that returns features of every token.
pub fn cross_entropy(
    logits: &Tensor,
    targets: &Targets,
    label_smoothing: f64,
    reduction: Reduction,
) -> Result<Tensor> {
    let loss = checked_apart(logits, targets, label_smoothing, reduction)?;
    let flags = match targets {
        Targets::Classes(indices) if indices.device() != Device::Cpu => {
            out_of_range(indices, expect_logits(logits)?[1])?
        }
        _ => return Ok(loss),
    };
    match reduction {
        Reduction::None => Ok(loss.f_add(&flags)?),
        _ => Ok(loss.f_add(&flags.f_sum(Kind::Float)?)?),
    }
}

/// [`cross_entropy`] with class indices on another device than the CPU limited to the classes there are:
/// the caller checks them by [`class_index_flag`].
pub(super) fn checked_apart(
    logits: &Tensor,
    targets: &Targets,
    label_smoothing: f64,
    reduction: Reduction,
) -> Result<Tensor> {
    let weight: Option<Tensor> = None;
    let target = expect_targets(logits, targets)?;
    Ok(logits.f_cross_entropy_loss(&target, weight, reduction, -100, label_smoothing)?)
}

/// Returns the targets that the loss is computed with, on the device of the logits.
pub(super) fn expect_targets(logits: &Tensor, targets: &Targets) -> Result<Tensor> {
    let operation = "task loss";
    let [batch, classes] = expect_logits(logits)?;
    let indices = match targets {
        Targets::Probabilities(probabilities) => {
            expect_shape(operation, "class probabilities", probabilities, &[batch, classes])?;
            return Ok(probabilities.shallow_clone());
        }
        Targets::Classes(indices) => indices,
        Targets::Values(_) | Targets::Unlabelled => {
            let expected = "class indices or class probabilities; without labels, set \
                            training.distillation with weight 1 and final_weight none, or the task \
                            FeatureMatching";
            return Err(Error::invalid("targets of the task loss", expected, kind_of(targets)));
        }
    };
    expect_shape(operation, "class indices", indices, &[batch])?;
    if indices.device() != Device::Cpu {
        // An index out of range would end the CUDA context.
        return Ok(indices.f_clamp(0, classes - 1)?);
    }
    let outside = |index: &i64| !(0..classes).contains(index);
    match Vec::<i64>::try_from(indices)?.into_iter().find(outside) {
        None => Ok(indices.f_to_device(logits.device())?),
        Some(index) => {
            let expected = format!("at least 0 and below {classes}, the classes of the network");
            Err(Error::invalid("class index of the targets", expected, index))
        }
    }
}

/// Returns batch size and number of classes.
fn expect_logits(logits: &Tensor) -> Result<[i64; 2]> {
    <[i64; 2]>::try_from(logits.size()).map_err(|shape| {
        let expected = "[B, classes]; for features, set another task, such as FeatureMatching";
        Error::invalid("shape of the logits of the task loss", expected, format!("{shape:?}"))
    })
}

/// Returns a scalar on the device of the targets: NaN if a class index is out of range, else 0.
/// `None` for other targets and on the CPU, where [`cross_entropy`] checks the indices.
pub(super) fn class_index_flag(classes: i64, targets: &Targets) -> Result<Option<Tensor>> {
    match targets {
        Targets::Classes(indices) if indices.device() != Device::Cpu => {
            Ok(Some(out_of_range(indices, classes)?.f_sum(Kind::Float)?))
        }
        _ => Ok(None),
    }
}

/// Of each index, 0/0 if it is outside `0..classes`, else 0/1.
fn out_of_range(indices: &Tensor, classes: i64) -> Result<Tensor> {
    let right = indices.f_clamp(0, classes - 1)?.f_eq_tensor(indices)?;
    let right = right.f_to_kind(Kind::Float)?;
    Ok(right.f_zeros_like()?.f_div(&right)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_of_class_indices_is_nan_where_one_is_out_of_range() -> Result<()> {
        for (indices, outside) in
            [([0, 4], false), ([0, 5], true), ([-1, 4], true), ([-100, 0], true)]
        {
            let flags = out_of_range(&Tensor::f_from_slice::<i64>(&indices)?, 5)?;
            let flag = flags.f_sum(Kind::Float)?;
            let flag = flag.f_double_value(&[])?;
            assert!(if outside { flag.is_nan() } else { flag == 0.0 }, "{indices:?}: {flag}");
        }
        Ok(())
    }
}
