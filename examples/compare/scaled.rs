//! A ViT whose loss is scaled, to see what depends on the loss's scale.

use once_for_both::components::MaskedTokens;
use once_for_both::cost::CostModel;
use once_for_both::models::{
    Architecture, Logits, Network, PmimPorts, Shapes, VisionTransformer, VitConfig,
};
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::supernet::Weights;
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use tch::{nn, Tensor};

/// A ViT with the function of `vit`, and with `factor` times its gradients: those of
/// `factor` × (task, distillation and reconstruction loss), whatever these losses are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaledLossVit {
    pub vit: VitConfig,
    pub factor: f64,
}

impl Architecture for ScaledLossVit {
    type Network = ScaledLossNetwork;

    const FAMILY: &'static str = "vit-with-scaled-loss";

    fn build(&self, path: &nn::Path) -> Result<ScaledLossNetwork> {
        Ok(ScaledLossNetwork { network: self.vit.build(path)?, factor: self.factor })
    }

    fn space(&self) -> Result<SearchSpace> {
        self.vit.space()
    }

    fn cost_model(&self) -> CostModel {
        self.vit.cost_model()
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        Ok(Self { vit: self.vit.resized(sizes)?, factor: self.factor })
    }

    fn pmim_ports(&self) -> Option<PmimPorts> {
        self.vit.pmim_ports()
    }

    fn feature_dimension(&self) -> Option<String> {
        self.vit.feature_dimension()
    }

    fn standardised(&self, weights: &mut Weights) -> Result<Self> {
        Ok(Self { vit: self.vit.standardised(weights)?, factor: self.factor })
    }

    fn variables(&self) -> Result<Shapes> {
        self.vit.variables()
    }
}

/// The network of a [`ScaledLossVit`].
#[derive(Debug)]
pub struct ScaledLossNetwork {
    network: VisionTransformer,
    factor: f64,
}

impl ScaledLossNetwork {
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

impl Network for ScaledLossNetwork {
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
