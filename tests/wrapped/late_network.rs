//! A recipe with floating-point buffers of which the first step writes one alone.

use super::recipe_network::{Built, Recipe};
use once_for_both::cost::CostModel;
use once_for_both::models::{Architecture, Logits, Network};
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use tch::{nn, Tensor};

/// Names of the buffers: forward passes in training, and the sum of the images' means after the first of them.
pub const LATE_BUFFERS: [&str; 2] = ["calls", "sum"];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Late(pub Recipe);

#[derive(Debug)]
pub struct LateNetwork {
    recipe: Built,
    calls: Tensor,
    sum: Tensor,
}

impl Network for LateNetwork {
    fn forward(&self, images: &Tensor, train: bool) -> Result<Logits> {
        if train {
            tch::no_grad(|| -> Result<()> {
                let (mut calls, mut sum) = (self.calls.shallow_clone(), self.sum.shallow_clone());
                let mean = images.f_mean(None)?.f_mul(&calls.f_clamp_max(1)?)?;
                sum.f_copy_(&sum.f_add(&mean)?)?;
                calls.f_copy_(&calls.f_add_scalar(1)?)?;
                Ok(())
            })?;
        }
        self.recipe.forward(images, train)
    }
}

impl Architecture for Late {
    type Network = LateNetwork;
    const FAMILY: &'static str = "late recipe";

    fn build(&self, path: &nn::Path) -> Result<LateNetwork> {
        let [calls, sum] = LATE_BUFFERS.map(|name| path.f_zeros_no_train(name, &[1]));
        Ok(LateNetwork { recipe: self.0.build(path)?, calls: calls?, sum: sum? })
    }

    fn space(&self) -> Result<SearchSpace> {
        self.0.space()
    }

    fn cost_model(&self) -> CostModel {
        self.0.cost_model()
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        self.0.resized(sizes).map(Self)
    }
}
