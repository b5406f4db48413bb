//! Extractors: from a decided supernet to a plain network.

use super::Subnet;
use crate::cost::size_in;
use crate::models::Architecture;
use crate::space::Sizes;
use crate::supernet::{Supernet, Weights};
use crate::{Error, Result};

/// Makes a plain network of family `B` from a decided supernet of family `A`.
///
/// [`Search::extract_with`](crate::search::Search::extract_with) calls it once every dimension is
/// decided and the weights are materialised, and verifies what it returns.
pub trait SubnetExtractor<A: Architecture, B: Architecture = A> {
    /// Returns the subnet.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the network cannot be built at other sizes.
    fn extract(&self, supernet: &Supernet<A>) -> Result<Subnet<B>>;
}

/// Folds the gates and the attention scale into the weights: the subnet is a standard network of its
/// own family.
#[derive(Debug, Clone, Copy, Default)]
pub struct FoldingExtractor;

impl<A: Architecture> SubnetExtractor<A> for FoldingExtractor {
    fn extract(&self, supernet: &Supernet<A>) -> Result<Subnet<A>> {
        if !supernet.shrinks() {
            let operation = "extraction into its own family, because it has no other sizes";
            return Err(Error::Unsupported { model: A::FAMILY.into(), operation });
        }
        let mut weights = supernet.folded_weights();
        let architecture = supernet.architecture().standardised(&mut weights)?;
        Subnet::new(architecture, &weights, supernet.device())
    }
}

/// A network whose subnet is of another family.
///
/// For a network that cannot be built at other sizes: a loaded TorchScript module becomes this
/// crate's ViT, for example.
pub trait ExtractInto: Architecture {
    /// Family of the subnet.
    type Target: Architecture;

    /// Returns the subnet's description and its weights under its own names. `weights` have this
    /// family's names, and are sliced to `sizes`.
    ///
    /// # Errors
    /// [`Error::Unknown`] if a weight is missing.
    fn translate(&self, sizes: &Sizes, weights: Weights) -> Result<(Self::Target, Weights)>;
}

/// Folds like [`FoldingExtractor`], and translates the subnet into the family of [`ExtractInto`].
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslatingExtractor;

impl<A: ExtractInto> SubnetExtractor<A, A::Target> for TranslatingExtractor {
    fn extract(&self, supernet: &Supernet<A>) -> Result<Subnet<A::Target>> {
        let weights = supernet.sliced_weights()?;
        let architecture = supernet.architecture();
        let (target, mut weights) = architecture.translate(&supernet.sizes(), weights)?;
        let target = target.standardised(&mut weights)?;
        Subnet::new(target, &weights, supernet.device())
    }
}

/// Refuses a supernet with an undecided dimension, or with gates that still fade out.
pub(crate) fn expect_decided<A: Architecture>(supernet: &Supernet<A>) -> Result<()> {
    let sizes = supernet.sizes();
    for state in supernet.states() {
        if state.active.decided().is_none() {
            let expected = "1, because a subnet has one size in every dimension";
            let name = format!("active candidates of {}", state.name);
            return Err(Error::invalid(name, expected, state.active.count()));
        }
        let (present, decided) = (size_in(&sizes, &state.name)?, state.active.largest());
        if present != decided {
            let name = format!("size of {}", state.name);
            let expected = format!("{decided:?}, as decided: its gates still fade out");
            return Err(Error::invalid(name, expected, format!("{present:?}")));
        }
    }
    Ok(())
}
