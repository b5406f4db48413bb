//! Networks with random weights, and a helper that saves them.

mod compatibility;
mod exports;
mod numbers;
mod python;
mod refused;
mod round_trip;
mod saving;
mod verification;

use crate::support::{from_numbers, test_device, Tensors, TestResult};
use once_for_both::models::{
    Activation, Architecture, AttentionPool, BlockConfig, Mlp, Norm, Pooling, PositionEmbedding,
    QkvBias, Rope, SwinConfig, VitConfig,
};
use once_for_both::subnet::{
    verify_against, Differences, Export, Extracted, Precision, Provenance, Subnet,
};
use std::path::Path;
use tch::Tensor;

/// A ViT whose blocks differ in every size.
pub fn config(distilled: bool) -> VitConfig {
    VitConfig {
        blocks: vec![BlockConfig::new(3, 8, 40), BlockConfig::new(1, 16, 24)],
        distilled,
        ..VitConfig::uniform(20, 0, 1).input(12, 2, 4).classes(7)
    }
}

/// One ViT of each kind: plain, distilled, with layer scale and mean pooling, of features, and with
/// every other option.
pub fn kinds() -> Vec<(&'static str, VitConfig)> {
    let pooled = config(false).layer_scale(0.1).pooling(Pooling::ClassAndMean);
    let features = config(false).layer_scale(0.1).pooling(Pooling::Tokens);
    let clip = VitConfig {
        pre_norm: true,
        patch_bias: false,
        activation: Activation::QuickGelu,
        head_bias: false,
        ..config(false)
    };
    let average = VitConfig {
        class_token: false,
        registers: 2,
        positions: PositionEmbedding::Patches,
        qkv_bias: QkvBias::None,
        qk_norm: Some(Norm::Layer),
        activation: Activation::GeluTanh,
        ..config(false).pooling(Pooling::MeanNorm)
    };
    let gated = VitConfig {
        positions: PositionEmbedding::None,
        qkv_bias: QkvBias::QueryValue,
        norm: Norm::Rms,
        qk_norm: Some(Norm::Rms),
        mlp: Mlp::SwiGlu,
        ..config(false).pooling(Pooling::Mean)
    };
    let relu = VitConfig { registers: 3, activation: Activation::Relu, ..config(false) };
    let eva = VitConfig {
        rope: Some(Rope::Grid { base: 100.0, reference: 4 }),
        qk_norm: Some(Norm::Layer),
        ..config(false)
    };
    let rope = Some(Rope::Normalised { base: 100.0 });
    let dino =
        VitConfig { rope, registers: 2, positions: PositionEmbedding::None, ..config(false) };
    let mut pool = AttentionPool::new(18, 3, 28);
    pool.latent_dim = 10;
    let siglip =
        VitConfig { class_token: false, ..config(false).pooling(Pooling::Attention(pool)) };
    // LayerScale that begins at zero, and a scale of attention logits that is not folded away.
    let mut late = VitConfig {
        positions: PositionEmbedding::Patches,
        drop_path: 0.1,
        ..config(true).layer_scale(0.0)
    };
    late.blocks[1].scale_dim = 24;
    let (plain, distilled) = (config(false), config(true));
    // Removed branches: an MLP and an attention; a whole block, under LayerScale.
    let mut shallow = config(false);
    (shallow.blocks[0].hidden_dim, shallow.blocks[1].heads) = (0, 0);
    let mut removed = config(true).layer_scale(0.2);
    (removed.blocks[1].hidden_dim, removed.blocks[1].heads) = (0, 0);
    // Queries and keys with a width of their own, one of them beside a removed attention.
    let mut apart = config(true);
    (apart.blocks[0].qk_dim, apart.blocks[1].qk_dim) = (Some(5), Some(24));
    let mut apart_unbiased = VitConfig { qkv_bias: QkvBias::None, ..config(false) };
    (apart_unbiased.blocks[0].qk_dim, apart_unbiased.blocks[1].heads) = (Some(5), 0);
    apart_unbiased.blocks[1].qk_dim = Some(3);
    vec![
        ("plain", plain),
        ("distilled", distilled),
        ("pooled", pooled),
        ("features", features),
        ("clip", clip),
        ("average", average),
        ("gated", gated),
        ("relu", relu),
        ("eva", eva),
        ("dino", dino.clone()),
        ("wide", dino.rectangular([12, 10], [4, 5])),
        ("siglip", siglip),
        ("late", late),
        ("shallow", shallow),
        ("removed", removed),
        ("apart", apart),
        ("apart-unbiased", apart_unbiased),
    ]
}

/// A Swin of two stages, with shifted windows in the first, whose blocks differ in every size.
pub fn swin() -> SwinConfig {
    let mut config = SwinConfig::uniform(12, &[2, 1], 2).input(16, 2, 2).window(4).classes(7);
    config.stages[0].blocks[1] = BlockConfig::new(3, 5, 28);
    config.stages[1].embed_dim = 20;
    config
}

/// A Swin whose grids, of 9 and 5 tokens, are padded for shifted windows and for patch merging.
pub fn padded_swin() -> SwinConfig {
    SwinConfig::uniform(12, &[2, 2], 2).input(18, 2, 2).window(4).classes(7)
}

/// Swins: dense; padded; with removed branches; with queries and keys of a width of their own; with a scale of attention
/// logits that is not folded away, in padded windows, beside a block of which both branches have been removed.
pub fn swins() -> [(&'static str, SwinConfig); 5] {
    let mut shallow = swin();
    (shallow.stages[0].blocks[1].heads, shallow.stages[1].blocks[0].hidden_dim) = (0, 0);
    let mut apart = swin();
    (apart.stages[0].blocks[1].qk_dim, apart.stages[1].blocks[0].qk_dim) = (Some(4), Some(9));
    let mut scaled = SwinConfig { drop_path: 0.1, ..padded_swin() };
    (scaled.stages[0].blocks[1].head_dim, scaled.stages[1].embed_dim) = (4, 22);
    (scaled.stages[1].blocks[1].heads, scaled.stages[1].blocks[1].hidden_dim) = (0, 0);
    [
        ("swin", swin()),
        ("padded_swin", padded_swin()),
        ("swin-shallow", shallow),
        ("swin-apart", apart),
        ("swin-scaled", scaled),
    ]
}

/// A network with random weights, biases and norm scales.
pub fn network<A: Architecture>(config: &A) -> TestResult<Subnet<A>> {
    let mut weights = Tensors::new();
    for (seed, (name, shape)) in config.variables()?.into_iter().enumerate() {
        let noise = noise(seed as f64, &shape)?;
        let inputs: i64 = shape.iter().skip(1).product();
        let tensor = match (name.contains("norm"), name.ends_with("weight")) {
            (true, true) => noise.f_mul_scalar(0.1)?.f_add_scalar(1.0)?,
            (false, true) => noise.f_div_scalar((inputs as f64).sqrt())?,
            (_, false) => noise.f_mul_scalar(0.1)?,
        };
        weights.insert(name, tensor);
    }
    Ok(Subnet::new(config.clone(), &weights, test_device())?)
}

pub fn images<A: Architecture>(config: &A, batch: i64) -> TestResult<Tensor> {
    let [channels, height, width] = config.graph()?.input();
    noise(0.5, &[batch, channels, height, width])
}

/// Deterministic noise of variance 1, independent of libtorch's generator.
fn noise(seed: f64, shape: &[i64]) -> TestResult<Tensor> {
    let count: i64 = shape.iter().product();
    let number = |place: i64| {
        let scrambled = ((place as f64 + 1.0) * 12.9898 + seed * 78.233).sin() * 43758.5453;
        (scrambled.rem_euclid(1.0) - 0.5) * 12f64.sqrt()
    };
    from_numbers(&(0..count).map(number).collect::<Vec<_>>(), shape)
}

/// The network with a verification against itself on three images.
pub fn verified<A: Architecture>(subnet: Subnet<A>) -> TestResult<Extracted<A>> {
    let images = images(subnet.architecture(), 3)?;
    verified_on(subnet, images)
}

/// The network with a verification against itself on `images`.
pub fn verified_on<A: Architecture>(subnet: Subnet<A>, images: Tensor) -> TestResult<Extracted<A>> {
    let verification = verify_against(&subnet, &subnet, &images)?;
    let provenance = Provenance::of(subnet.architecture())?;
    Ok(Extracted { subnet, verification, provenance, images })
}

/// Saves a copy of the network, verified against itself on three images.
pub fn save<A: Architecture>(
    subnet: &Subnet<A>,
    folder: &Path,
    export: &Export,
) -> TestResult<Differences> {
    let copy = Subnet::new(subnet.architecture().clone(), subnet.weights(), test_device())?;
    Ok(verified(copy)?.save(folder, export)?)
}

/// Allowed difference of a logit after rounding the weights, as a share of the largest logit.
pub fn rounding_tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 0.0,
        half => 4.0 * half.epsilon(),
    }
}

pub const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::F16, Precision::Bf16];
