//! Self-check of a declared search space: whether it is that of its network, on random weights.

mod attempt;
mod change;
mod claim;
mod costs;
mod gates;
mod layers;
mod order;
mod probe;
mod repair;
mod sizes;

use crate::error::Fault;
use crate::models::Architecture;
use crate::space::SearchSpace;
use crate::{Error, Result};
use probe::Probe;
use tch::Tensor;

/// Result of a self-check.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// Names of the dimensions that were checked.
    pub dimensions: Vec<String>,
    /// Everything that is wrong; empty for a correct declaration.
    pub faults: Vec<Fault>,
}

/// One fault a line; `sound` and the dimensions without any.
impl std::fmt::Display for Findings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.faults.is_empty() {
            return write!(f, "sound: {}", self.dimensions.join(", "));
        }
        let lines: Vec<String> = self.faults.iter().map(Fault::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Findings {
    /// Returns `Ok` if there is no fault.
    ///
    /// # Errors
    /// [`Error::Declaration`] with all faults.
    pub fn expect_sound(self) -> Result<()> {
        match self.faults.is_empty() {
            true => Ok(()),
            false => Err(Error::Declaration { faults: self.faults }),
        }
    }
}

/// Compares the declaration of a search space with its network, on random weights.
///
/// - Reordering the units of a dimension, in every axis bound to it, changes no logit. Otherwise an
///   axis is missing, is bound by mistake, or has another layout.
/// - Units whose gates are zero do not change the logits.
/// - The network built at smaller sizes has variables as long as the sliced ones and, in attention
///   and hidden dimensions, the logits of the masked network.
/// - A dimension whose units nothing writes into and whose pruning changes no logit is no embedding.
/// - `resized`, `build` and the forward pass do not panic or fail at smaller sizes.
/// - The cost model depends on every dimension, and its parameters fall by as many as slicing
///   removes.
///
/// The third comparison is left out for a network that cannot be built at other sizes. It takes
/// four forward passes, a few more per dimension, and as many per fault as the network has axes.
/// libtorch's generator is reseeded.
///
/// # Shapes
/// `images`: a few random images, `[B, C, H, W]`; their device is used.
///
/// # Errors
/// Those of [`SearchSpace::validate`] and of the model; [`Error::NonFinite`] or [`Error::Invalid`]
/// if the logits are not finite, or not the same twice in evaluation, or the network panics at its
/// dense size.
pub fn self_check<A: Architecture>(
    architecture: &A,
    space: &SearchSpace,
    images: &Tensor,
) -> Result<Findings> {
    attempt::without_panic(|| checked(architecture, space, images))
}

fn checked<A: Architecture>(
    architecture: &A,
    space: &SearchSpace,
    images: &Tensor,
) -> Result<Findings> {
    let probe = crate::autograd::no_grad(|| Probe::new(architecture, space, images))?;
    space.validate(&probe.shapes())?;
    let mut faults = costs::unknown(&architecture.cost_model(), space);
    crate::autograd::no_grad(|| {
        for dimension in &space.dimensions {
            let disordered = order::check(&probe, dimension)?;
            // With a wrong order, the gates would be reported for the same reason again.
            if disordered.is_none() {
                faults.extend(gates::check(&probe, dimension)?);
            }
            let ordered = disordered.is_none();
            faults.extend(disordered);
            faults.extend(sizes::check(&probe, architecture, dimension, ordered)?);
            faults.extend(costs::parameters(
                &probe,
                architecture,
                &architecture.cost_model(),
                dimension,
            )?);
        }
        Ok::<(), Error>(())
    })?;
    let dimensions = space.dimensions.iter().map(|dimension| dimension.name.clone()).collect();
    Ok(Findings { dimensions, faults })
}

/// The examples of the document compile and run.
#[cfg(all(doctest, feature = "pipeline"))]
#[doc = include_str!("../../docs/wrapping.md")]
struct Wrapping;
