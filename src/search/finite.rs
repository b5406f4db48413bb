//! Losses and gradients of a step that have to be finite, by name.

use super::step::Search;
use super::update::NonFiniteCounts;
use crate::models::Architecture;
use crate::Result;
use tch::{Kind, Tensor};

/// Names of what is checked, in the order in which a step computes it.
pub(super) const QUANTITIES: [&str; 8] = [
    "class indices of the targets (out of range)",
    "task loss",
    "distillation loss",
    "reconstruction loss",
    "one-hot loss",
    "budget loss",
    "gradient of the weights",
    "gradient of scores, α or decoder",
];
const RECONSTRUCTION: usize = 3;
const ONE_HOT: usize = 4;
/// Number of the first gradient.
const GRADIENTS: usize = 6;

/// Losses of a step on the device, summed over its batches; `None` where there is none.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// NaN if a class index is out of range, else 0.
    pub(super) classes: Option<Tensor>,
    pub(super) task: Option<Tensor>,
    pub(super) distillation: Option<Tensor>,
    pub(super) reconstruction: Option<Tensor>,
    pub(super) one_hot: Option<Tensor>,
    pub(super) budget: Option<Tensor>,
}

impl Checked {
    /// Adds the loss of a batch to a sum.
    pub(super) fn add(sum: &mut Option<Tensor>, loss: &Tensor) -> Result<()> {
        let loss = loss.f_detach()?;
        *sum = Some(match sum {
            None => loss,
            Some(sum) => sum.f_add(&loss)?,
        });
        Ok(())
    }

    /// Returns one flag for each of [`QUANTITIES`]: true where it is not finite.
    ///
    /// # Shapes
    /// `weights`, `others`: norms of the gradients, scalars. Result: `[8]`, bool.
    pub(super) fn not_finite(&self, weights: &Tensor, others: &Tensor) -> Result<Tensor> {
        let zero = weights.f_zeros_like()?;
        let losses = [
            &self.classes,
            &self.task,
            &self.distillation,
            &self.reconstruction,
            &self.one_hot,
            &self.budget,
        ];
        let losses = losses.map(|loss| loss.as_ref().unwrap_or(&zero));
        let values = losses.into_iter().chain([weights, others]).map(scalar);
        let values: Vec<Tensor> = values.collect::<Result<_>>()?;
        Ok(Tensor::f_stack(&values, 0)?.f_isfinite()?.f_logical_not()?)
    }
}

/// The loss of a component may have any shape and kind.
fn scalar(loss: &Tensor) -> Result<Tensor> {
    match (loss.size().is_empty(), loss.kind()) {
        (true, Kind::Float) => Ok(loss.shallow_clone()),
        _ => Ok(loss.f_sum(Kind::Float)?),
    }
}

impl<A: Architecture> Search<A> {
    /// Returns the names of what was not finite at the first of the latest skipped steps in a row:
    /// the losses, or, if all were finite, the gradients.
    pub(super) fn first_not_finite(&self, counts: NonFiniteCounts) -> Vec<String> {
        let flags = counts.first;
        let name = |at: usize| match at {
            RECONSTRUCTION => format!("{} of {}", QUANTITIES[at], self.components.pmim.id()),
            ONE_HOT => format!("{} of {}", QUANTITIES[at], self.components.one_hot.id()),
            _ => QUANTITIES[at].to_string(),
        };
        let named = |range: std::ops::Range<usize>| -> Vec<String> {
            range.filter(|at| flags >> at & 1 == 1).map(name).collect()
        };
        let losses = named(0..GRADIENTS);
        match losses.is_empty() {
            true => named(GRADIENTS..QUANTITIES.len()),
            false => losses,
        }
    }
}
