//! From a network that cannot be built smaller to one that can.

use super::subnet::expect_decided;
use super::Subnet;
use crate::models::Architecture;
use crate::space::Sizes;
use crate::supernet::{Supernet, Weights};
use crate::Result;

/// A network whose subnet is one of another family: what cannot be built at other sizes (a loaded
/// TorchScript module, a model with fixed sizes) becomes, say, our ViT.
pub trait ExtractInto: Architecture {
    /// The family of the subnet.
    type Target: Architecture;

    /// The subnet at these sizes, and its weights under its own names. `weights` have their own
    /// names and are sliced to `sizes`.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] if a weight is missing.
    fn translate(&self, sizes: &Sizes, weights: Weights) -> Result<(Self::Target, Weights)>;
}

/// The subnet that the supernet has been decided to be, folded, as a standard network of the
/// target family. Takes the weights of the last [`Supernet::materialise`].
///
/// # Errors
/// [`crate::Error::Invalid`] while a dimension is undecided or its units are on their way out;
/// [`crate::Error::Unknown`] or [`crate::Error::Shape`] if the translated weights are not those of the target.
pub fn extract_into<A: ExtractInto>(supernet: &Supernet<A>) -> Result<Subnet<A::Target>> {
    expect_decided(supernet)?;
    let sizes = supernet.sizes();
    let weights = supernet.sliced_weights()?;
    let (target, mut weights) = supernet.architecture().translate(&sizes, weights)?;
    let target = target.standardised(&mut weights)?;
    Subnet::new(target, &weights, supernet.device())
}
