//! A network whose loss is scaled, to see what depends on the loss's scale.

use once_for_both::components::MaskedTokens;
use once_for_both::cost::CostModel;
use once_for_both::models::{Architecture, Logits, Network, PmimPorts, Shapes};
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::supernet::Weights;
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use tch::{nn, Tensor};

/// A network with the function of `network`, and with `factor` times its gradients: those of
/// `factor` × (task, distillation and reconstruction loss), whatever these losses are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "A: Architecture")]
pub struct ScaledLoss<A: Architecture> {
    pub network: A,
    pub factor: f64,
}

impl<A: Architecture> Architecture for ScaledLoss<A> {
    type Network = ScaledLossNetwork<A::Network>;

    const FAMILY: &'static str = "with-scaled-loss";

    fn build(&self, path: &nn::Path) -> Result<Self::Network> {
        Ok(ScaledLossNetwork { network: self.network.build(path)?, factor: self.factor })
    }

    fn space(&self) -> Result<SearchSpace> {
        self.network.space()
    }

    fn cost_model(&self) -> CostModel {
        self.network.cost_model()
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        Ok(Self { network: self.network.resized(sizes)?, factor: self.factor })
    }

    fn in_evaluation(&self) -> Self {
        Self { network: self.network.in_evaluation(), factor: 1.0 }
    }

    fn pmim_ports(&self) -> once_for_both::Result<PmimPorts> {
        self.network.pmim_ports()
    }

    fn feature_dimension(&self) -> Option<String> {
        self.network.feature_dimension()
    }

    fn standardised(&self, weights: &mut Weights) -> Result<Self> {
        Ok(Self { network: self.network.standardised(weights)?, factor: self.factor })
    }

    fn variables(&self) -> Result<Shapes> {
        self.network.variables()
    }
}

/// The network of a [`ScaledLoss`].
#[derive(Debug)]
pub struct ScaledLossNetwork<N> {
    network: N,
    factor: f64,
}

impl<N> ScaledLossNetwork<N> {
    /// Returns the same values, whose gradient is multiplied by the factor.
    fn scaled(&self, output: &Tensor) -> Result<Tensor> {
        if self.factor == 1.0 {
            return Ok(output.shallow_clone());
        }
        // x + factor·(x − x), of which only the second part has a gradient.
        let value = output.f_detach()?;
        Ok(value.f_add(&output.f_sub(&value)?.f_mul_scalar(self.factor)?)?)
    }

    fn scaled_logits(&self, logits: &Logits) -> Result<Logits> {
        let distillation = logits.distillation.as_ref();
        let distillation = distillation.map(|logits| self.scaled(logits)).transpose()?;
        Ok(Logits { class: self.scaled(&logits.class)?, distillation })
    }
}

impl<N: Network> Network for ScaledLossNetwork<N> {
    fn forward(&self, images: &Tensor, train: bool) -> Result<Logits> {
        self.scaled_logits(&self.network.forward(images, train)?)
    }

    fn forward_features(&self, images: &Tensor, train: bool) -> Result<(Logits, Tensor)> {
        let (logits, features) = self.network.forward_features(images, train)?;
        Ok((self.scaled_logits(&logits)?, self.scaled(&features)?))
    }

    fn forward_masked(
        &self,
        images: &Tensor,
        masked: &MaskedTokens,
        train: bool,
    ) -> Result<(Logits, Tensor)> {
        let (logits, features) = self.network.forward_masked(images, masked, train)?;
        Ok((self.scaled_logits(&logits)?, self.scaled(&features)?))
    }

    fn trace(&self, images: &Tensor) -> Result<Vec<(String, Tensor)>> {
        self.network.trace(images)
    }
}
