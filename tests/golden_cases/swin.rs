//! `swin.*`: features, logits and costs of timm's network.

use super::networks::{load, SHARE};
use crate::support::{load_json, load_tensors, tensor, test_device, TestResult, Tolerance};
use once_for_both::components::MaskedTokens;
use once_for_both::cost::Metric;
use once_for_both::models::{Architecture, Network, Shapes, SwinConfig};
use serde::Deserialize;
use tch::{Kind, Tensor};

#[derive(Deserialize)]
struct Description {
    img: i64,
    patch: i64,
    dim: i64,
    depths: Vec<usize>,
    heads: Vec<i64>,
    window: i64,
    mlp_ratio: i64,
    classes: i64,
    ln_eps: f64,
    macs: u64,
    params: u64,
}

impl Description {
    fn config(&self) -> SwinConfig {
        let uniform = SwinConfig::uniform(self.dim, &self.depths, self.heads[0]);
        let config = uniform.input(self.img, 3, self.patch).classes(self.classes);
        SwinConfig { norm_eps: self.ln_eps, ..config.window(self.window) }
    }
}

#[test]
fn swin() -> TestResult {
    let (description, tensors): (Description, _) = (load_json("swin")?, load_tensors("swin")?);
    let config = description.config();
    for (stage, own) in config.stages.iter().enumerate() {
        for block in &own.blocks {
            assert_eq!(block.heads, description.heads[stage]);
            assert_eq!(block.hidden_dim, description.mlp_ratio * own.embed_dim);
        }
    }
    let (store, network) = load(&config, &tensors)?;
    let images = tensor(&tensors, "golden.images")?;
    let logits = tensor(&tensors, "golden.logits")?;
    // timm's features are a grid, ours a row of tokens.
    let features = tensor(&tensors, "golden.features")?.flatten(1, 2);
    let close_features = Tolerance::of_scale(SHARE, &features)?;
    let close_logits = Tolerance::of_scale(SHARE, logits)?;
    close_features.check("features", &network.features(images, None, false)?, &features)?;
    close_logits.check("logits", &network.forward(images, false)?.prediction()?, logits)?;

    let (batch, last) = (images.size()[0], config.stages.len() - 1);
    let (tokens, width) = (config.grid(last) * config.grid(last), config.stages[0].embed_dim);
    let float = (Kind::Float, test_device());
    let token = Tensor::ones([1, 1, width], float);
    let hidden = MaskedTokens { mask: &Tensor::zeros([batch, tokens], float), token: &token };
    let (masked, patches) = network.forward_masked(images, &hidden, false)?;
    close_logits.check("logits with no token hidden", &masked.prediction()?, logits)?;
    close_features.check("patch features", &patches, &features)?;

    let built: Shapes = store.variables().into_iter().map(|(n, t)| (n, t.size())).collect();
    assert_eq!(config.variables()?, built);
    let variables: usize = store.trainable_variables().iter().map(Tensor::numel).sum();
    assert_eq!(variables as u64, description.params, "variables of the network");
    super::costs::expect_costs("swin", &config, description.macs, description.params)?;
    let model = config.cost_model();
    assert_eq!(model.dense, config.space()?.full_sizes(), "dense sizes");
    assert_eq!(model.cost(Metric::Macs, &model.dense)?, description.macs as f64);
    Ok(())
}
