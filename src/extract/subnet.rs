//! From a decided supernet to a plain network.

use super::Precision;
use crate::cost::size_in;
use crate::error::expect_shape;
use crate::models::{Architecture, Network};
use crate::supernet::{Supernet, Weights};
use crate::{Error, Result};
use tch::{nn, Device, Tensor};

/// A plain network with its weights.
#[derive(Debug)]
pub struct Subnet<A: Architecture> {
    architecture: A,
    network: A::Network,
    weights: Weights,
    device: Device,
    precision: Precision,
}

/// Makes a plain network of a supernet.
pub trait SubnetExtractor<A: Architecture> {
    /// The subnet that the supernet has been decided to be.
    ///
    /// # Errors
    /// [`Error::Invalid`] while a dimension is undecided or its units are on their way out;
    /// [`Error::Unsupported`] if the network cannot be built at other sizes.
    fn extract(&self, supernet: &Supernet<A>) -> Result<Subnet<A>>;
}

/// Folds the gates into the weights, and the attention scale too: the result is a standard
/// network of its family.
#[derive(Debug, Clone, Copy, Default)]
pub struct FoldingExtractor;

impl<A: Architecture> SubnetExtractor<A> for FoldingExtractor {
    /// Takes the weights of the last [`Supernet::materialise`]; a session leaves it current when its
    /// last step is done, [`Session::materialise`](crate::search::Session::materialise) before.
    fn extract(&self, supernet: &Supernet<A>) -> Result<Subnet<A>> {
        expect_decided(supernet)?;
        if !supernet.shrinks() {
            let operation = "extraction into its own family, because it has no other sizes";
            return Err(Error::Unsupported { model: A::FAMILY.into(), operation });
        }
        let mut weights = supernet.folded_weights();
        let architecture = supernet.architecture().standardised(&mut weights)?;
        Subnet::new(architecture, &weights, supernet.device())
    }
}

/// Refuses a supernet with an undecided dimension, or with units that are still on their way out.
pub(super) fn expect_decided<A: Architecture>(supernet: &Supernet<A>) -> Result<()> {
    let sizes = supernet.sizes();
    for state in supernet.states() {
        if state.active.decided().is_none() {
            let expected = "1, because a subnet has one size in every dimension";
            let name = format!("active cells of {}", state.name);
            return Err(Error::invalid(name, expected, state.active.count()));
        }
        let (present, decided) = (size_in(&sizes, &state.name)?, state.active.largest());
        if present != decided {
            let name = format!("size of {}", state.name);
            let expected = format!("{decided:?}, as decided: its units have yet to leave");
            return Err(Error::invalid(name, expected, format!("{present:?}")));
        }
    }
    Ok(())
}

impl<A: Architecture> Subnet<A> {
    /// Builds an f32 network and gives it copies of `weights`.
    ///
    /// # Errors
    /// [`Error::Unknown`] or [`Error::Shape`] if a weight is missing, unexpected or of another
    /// shape; nothing is copied then.
    pub fn new(architecture: A, weights: &Weights, device: Device) -> Result<Self> {
        Self::with_precision(architecture, weights, device, Precision::F32)
    }

    /// Builds a network that computes in `precision`, and gives it copies of `weights`.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_precision(
        architecture: A,
        weights: &Weights,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        let store = nn::VarStore::new(device);
        let network = architecture.build(&store.root())?;
        let mut own: Weights = store.variables().into_iter().collect();
        if let Some(name) = weights.keys().find(|name| !own.contains_key(*name)) {
            return Err(Error::unknown("weight", name, own.keys()));
        }
        for (name, target) in &own {
            let missing = || Error::unknown("weight", name, weights.keys());
            let source = weights.get(name).ok_or_else(missing)?;
            expect_shape("load subnet", name, source, &target.size())?;
        }
        tch::no_grad(|| {
            own.iter_mut().try_for_each(|(name, target)| {
                if target.kind() != precision.kind() {
                    // In place: the network holds the same variables.
                    let converted = target.f_to_kind(precision.kind())?;
                    target.f_set_data(&converted)?;
                }
                target.f_copy_(&weights[name])
            })
        })?;
        Ok(Self { architecture, network, weights: own, device, precision })
    }

    /// The description of the network.
    pub fn architecture(&self) -> &A {
        &self.architecture
    }

    /// The network.
    pub fn network(&self) -> &A::Network {
        &self.network
    }

    /// Its weights, by name.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The type it computes in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Prediction of `images`, `[B, C, H, W]` → `[B, classes]`, in evaluation and in the network's
    /// own precision.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images are not what the network takes.
    pub fn predict(&self, images: &Tensor) -> Result<Tensor> {
        let images = images.f_to_kind(self.precision.kind())?;
        tch::no_grad(|| self.network.forward(&images, false)?.prediction())
    }
}
