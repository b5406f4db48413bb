//! A plain network with its weights.

use super::Precision;
use crate::error::expect_shape;
use crate::models::{Architecture, Network};
use crate::supernet::Weights;
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
