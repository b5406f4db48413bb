//! Extractors: they build a plain network from a decided supernet.

use super::Subnet;
use crate::cost::size_in;
use crate::models::Architecture;
use crate::space::Sizes;
use crate::supernet::{Supernet, Weights};
use crate::{Error, Result};

/// Builds a plain network of family `B` from a decided supernet of family `A`.
///
/// [`Search::extract_with`](crate::search::Search::extract_with) checks that every dimension is
/// decided, materialises the weights θ ⊙ gates, calls the extractor, and verifies the result.
pub trait SubnetExtractor<A: Architecture, B: Architecture = A> {
    /// Returns the subnet.
    ///
    /// The library calls it with decided supernets alone. The extractors of this crate check that
    /// themselves, too.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the network cannot be built at other sizes.
    fn extract(&self, supernet: &Supernet<A>) -> Result<Subnet<B>>;
}

/// Extractor that folds gates and attention scale into the weights, so that the subnet is a standard
/// network of the same family.
#[derive(Debug, Clone, Copy, Default)]
pub struct FoldingExtractor;

impl<A: Architecture> SubnetExtractor<A> for FoldingExtractor {
    fn extract(&self, supernet: &Supernet<A>) -> Result<Subnet<A>> {
        expect_decided(supernet)?;
        if !supernet.can_narrow() {
            let operation = "extraction into its own family; extract it with TranslatingExtractor";
            return Err(Error::Unsupported { model: A::FAMILY.into(), operation });
        }
        let mut weights = supernet.folded_weights();
        let architecture = supernet.architecture().standardised(&mut weights)?;
        Subnet::new(architecture, &weights, supernet.device())
    }
}

/// Architecture whose subnet is of another family, because it cannot be built at other sizes.
///
/// For example, the subnet of a loaded TorchScript module can be a
/// [`VitConfig`](crate::models::VitConfig).
pub trait ExtractInto: Architecture {
    /// Family of the subnet.
    type Target: Architecture;

    /// Returns the subnet's configuration, and its weights under the names of the target family.
    ///
    /// `weights` are sliced to the decided `sizes` and have the names of this family.
    ///
    /// # Errors
    /// [`Error::Unknown`] if a weight is missing.
    fn translate(&self, sizes: &Sizes, weights: Weights) -> Result<(Self::Target, Weights)>;
}

/// Extractor that folds gates and attention scale into the weights, like [`FoldingExtractor`], and
/// translates the subnet into the family [`ExtractInto::Target`].
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslatingExtractor;

impl<A: ExtractInto> SubnetExtractor<A, A::Target> for TranslatingExtractor {
    fn extract(&self, supernet: &Supernet<A>) -> Result<Subnet<A::Target>> {
        expect_decided(supernet)?;
        let weights = supernet.sliced_weights()?;
        let architecture = supernet.architecture();
        let (target, mut weights) = architecture.translate(&supernet.sizes(), weights)?;
        let target = target.standardised(&mut weights)?;
        Subnet::new(target, &weights, supernet.device())
    }
}

/// Calls an extractor, after a check that every dimension is decided and no gate fade-out is under
/// way. The crate calls extractors in no other way.
pub(crate) fn extract_decided<A: Architecture, B: Architecture>(
    extractor: &dyn SubnetExtractor<A, B>,
    supernet: &Supernet<A>,
) -> Result<Subnet<B>> {
    expect_decided(supernet)?;
    extractor.extract(supernet)
}

/// Checks that every dimension is decided and no gate fade-out is under way.
fn expect_decided<A: Architecture>(supernet: &Supernet<A>) -> Result<()> {
    let sizes = supernet.sizes();
    for state in supernet.states() {
        if state.active.decided().is_none() {
            let expected = "1; train until the dimension is decided";
            let name = format!("active candidates of {}", state.name);
            return Err(Error::invalid(name, expected, state.active.count()));
        }
        let (present, decided) = (size_in(&sizes, &state.name)?, state.active.largest());
        if present != decided {
            let name = format!("size of {}", state.name);
            let expected = format!("{decided}, as decided; train until the gate fade-out ends");
            return Err(Error::invalid(name, expected, present));
        }
    }
    Ok(())
}
