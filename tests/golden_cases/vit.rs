//! `vit.*` and `deit_distilled.*`: features, logits and costs of timm's networks.

use super::networks::{load, SHARE};
use crate::support::{load_json, load_tensors, tensor, test_device, TestResult, Tolerance};
use once_for_both::components::MaskedTokens;
use once_for_both::cost::Metric;
use once_for_both::models::{Architecture, BlockConfig, Network, VitConfig};
use serde::Deserialize;
use tch::{Kind, Tensor};

/// The network that a JSON file describes.
#[derive(Deserialize)]
pub(super) struct Description {
    img: i64,
    patch: i64,
    pub(super) dim: i64,
    depth: usize,
    pub(super) heads: i64,
    pub(super) mlp_ratio: i64,
    classes: i64,
    ln_eps: f64,
}

#[derive(Deserialize)]
struct Costs {
    macs: u64,
    params: u64,
}

impl Description {
    pub(super) fn config(&self, distilled: bool) -> VitConfig {
        let block = BlockConfig::new(self.heads, self.dim / self.heads, self.mlp_ratio * self.dim);
        VitConfig {
            blocks: vec![block; self.depth],
            distilled,
            norm_eps: self.ln_eps,
            ..VitConfig::uniform(self.dim, self.depth, self.heads)
                .input(self.img, 3, self.patch)
                .classes(self.classes)
        }
    }
}

fn check(file: &str) -> TestResult {
    let (description, tensors): (Description, _) = (load_json(file)?, load_tensors(file)?);
    let costs: Costs = load_json(file)?;
    let config = description.config(tensors.contains_key("dist_token"));
    let (store, network) = load(&config, &tensors)?;
    let images = tensor(&tensors, "golden.images")?;
    let (features, logits) =
        (tensor(&tensors, "golden.features")?, tensor(&tensors, "golden.logits")?);
    let close_features = Tolerance::of_scale(SHARE, features)?;
    let close_logits = Tolerance::of_scale(SHARE, logits)?;
    close_features.check("features", &network.features(images, None, false)?, features)?;
    close_logits.check("logits", &network.forward(images, false)?.prediction()?, logits)?;

    // Hiding no token changes nothing, and patch features leave out the prefix tokens.
    let (batch, patches) = (images.size()[0], config.grid() * config.grid());
    let float = (Kind::Float, test_device());
    let token = Tensor::ones([1, 1, config.embed_dim], float);
    let hidden = MaskedTokens { mask: &Tensor::zeros([batch, patches], float), token: &token };
    let (masked, patch_features) = network.forward_masked(images, &hidden, false)?;
    close_logits.check("logits with no token hidden", &masked.prediction()?, logits)?;
    let expected = features.narrow(1, config.prefix_tokens(), patches);
    close_features.check("patch features", &patch_features, &expected)?;

    let variables: usize = store.trainable_variables().iter().map(Tensor::numel).sum();
    assert_eq!(variables as u64, costs.params, "{file}: variables of the network");
    super::costs::expect_costs(file, &config, costs.macs, costs.params)?;
    let model = config.cost_model();
    assert_eq!(model.dense, config.space()?.full_sizes(), "{file}: dense sizes");
    assert_eq!(model.cost(Metric::Macs, &model.dense)?, costs.macs as f64);
    Ok(())
}

#[test]
fn vit() -> TestResult {
    check("vit")
}

#[test]
fn deit_distilled() -> TestResult {
    check("deit_distilled")
}
