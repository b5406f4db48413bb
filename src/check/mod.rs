//! Is a declared search space that of its model? Shown on random weights.

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

/// What a self-check has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// Names of the dimensions that were checked.
    pub dimensions: Vec<String>,
    /// Everything that is wrong.
    pub faults: Vec<Fault>,
}

impl Findings {
    /// Nothing, if nothing is wrong.
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

/// Holds a declaration against the network it is made for, with random weights.
///
/// - Reordering the units of a dimension, in everything bound to it, changes no logit: every axis
///   and layout is right, and nothing was left out. This holds for embeddings, too.
/// - Units whose gates are zero have no influence left.
/// - The network at smaller sizes has the lengths that slicing makes, and (attention and hidden
///   dimensions) the logits of the masked one.
/// - The cost model knows every dimension, and counts the parameters that slicing takes away.
///
/// A network that cannot be built at other sizes is held against its own weights only. Forward
/// passes: three and a few for every dimension, and for every fault as many as there are axes.
/// `build` draws from libtorch's generator, which is seeded for it.
///
/// # Shapes
/// `images`: a few random images that the network takes, `[B, C, H, W]`; their device is used.
///
/// # Errors
/// Those of [`SearchSpace::validate`] and of the model; [`Error::NonFinite`] or [`Error::Invalid`]
/// if the logits are not finite, or not the same twice in evaluation.
pub fn self_check<A: Architecture>(
    architecture: &A,
    space: &SearchSpace,
    images: &Tensor,
) -> Result<Findings> {
    let probe = tch::no_grad(|| Probe::new(architecture, space, images))?;
    space.validate(&probe.shapes())?;
    let mut faults = costs::unknown(&architecture.cost_model(), space);
    tch::no_grad(|| {
        for dimension in &space.dimensions {
            let disordered = order::check(&probe, dimension)?;
            // Once units are mixed up, what gates do says nothing more.
            if disordered.is_none() {
                faults.extend(gates::check(&probe, dimension)?);
            }
            let ordered = disordered.is_none();
            faults.extend(disordered);
            faults.extend(sizes::check(&probe, architecture, dimension, ordered)?);
            faults.extend(costs::parameters(&probe, &architecture.cost_model(), dimension)?);
        }
        Ok::<(), Error>(())
    })?;
    let dimensions = space.dimensions.iter().map(|dimension| dimension.name.clone()).collect();
    Ok(Findings { dimensions, faults })
}

/// The code of docs/wrapping.md, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/wrapping.md")]
struct Wrapping;
