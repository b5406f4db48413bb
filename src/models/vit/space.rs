//! What can be removed from a ViT, and what it costs.

use super::VitConfig;
use crate::cost::{CostModel, Polynomial};
use crate::models::block::{self, expect_known};
use crate::space::{Binding, Candidates, Dimension, DimensionKind, SearchSpace, Size, Sizes};
use crate::tensors::Weights;
use crate::Result;

pub(super) const EMBEDDING: &str = "embed";

pub(super) fn block_name(block: usize) -> String {
    format!("blocks.{block}")
}

pub(super) fn search_space(config: &VitConfig) -> Result<SearchSpace> {
    let mut dimensions = vec![embedding(config)?];
    for (block, sizes) in config.blocks.iter().enumerate() {
        dimensions.extend(sizes.dimensions(&block_name(block))?);
    }
    Ok(SearchSpace { dimensions })
}

/// The residual stream. What makes tokens is gated; what writes into it later lands with the units
/// that leave; every other axis it indexes follows.
fn embedding(config: &VitConfig) -> Result<Dimension> {
    let candidates = Candidates::embedding(config.embed_dim)?;
    let mut dimension = Dimension::new(EMBEDDING, DimensionKind::Embedding, candidates);
    let mut tokens = vec!["cls_token", "pos_embed"];
    let mut heads = vec!["head"];
    if config.distilled {
        tokens.push("dist_token");
        heads.push("head_dist");
    }
    let mut norms = vec!["norm".to_string()];
    for block in 0..config.blocks.len() {
        norms.extend(["norm1", "norm2"].map(|norm| format!("blocks.{block}.{norm}")));
    }
    for norm in norms {
        dimension = dimension
            .bind(Binding::scaled(format!("{norm}.weight"), 0))
            .bind(Binding::written(format!("{norm}.bias"), 0));
    }
    for part in ["weight", "bias"] {
        dimension = dimension.bind(Binding::gated(format!("patch_embed.proj.{part}"), 0));
        for block in 0..config.blocks.len() {
            for writer in ["attn.proj", "mlp.fc2"] {
                let name = format!("blocks.{block}.{writer}.{part}");
                // What LayerScale multiplies must not fade twice.
                dimension = dimension.bind(match config.layer_scale {
                    None => Binding::written(name, 0),
                    Some(_) => Binding::narrowed(name, 0),
                });
            }
        }
    }
    if config.layer_scale.is_some() {
        for block in 0..config.blocks.len() {
            for scale in ["ls1", "ls2"] {
                dimension =
                    dimension.bind(Binding::written(format!("blocks.{block}.{scale}.gamma"), 0));
            }
        }
    }
    for token in tokens {
        dimension = dimension.bind(Binding::gated(token, 2));
    }
    for block in 0..config.blocks.len() {
        for reader in ["attn.qkv", "mlp.fc1"] {
            dimension =
                dimension.bind(Binding::narrowed(format!("blocks.{block}.{reader}.weight"), 1));
        }
    }
    for head in heads {
        let columns = Binding::narrowed(format!("{head}.weight"), 1).outer(config.pooling.parts());
        dimension = dimension.bind(columns);
    }
    Ok(dimension)
}

pub(super) fn cost_model(config: &VitConfig) -> CostModel {
    // In f64 from the start: asking what a description costs that cannot be built must not overflow.
    let (patches, prefix) = ((config.grid() as f64).powi(2), config.prefix_tokens() as f64);
    let (tokens, classes) = (patches + prefix, config.classes as f64);
    let pixels = config.in_channels as f64 * (config.patch_size as f64).powi(2);
    let heads = if config.distilled { 2.0 } else { 1.0 };
    let columns = || Polynomial::units(EMBEDDING) * config.pooling.parts();
    let scales = if config.layer_scale.is_some() { 2 } else { 0 };
    let embed = || Polynomial::units(EMBEDDING);

    let mut macs = embed() * (patches * pixels) + columns() * (classes * heads);
    // Patch projection with bias, prefix tokens, positions, last norm, heads with bias.
    let mut params =
        embed() * (pixels + 1.0 + prefix + tokens + 2.0) + (columns() + 1) * (classes * heads);
    for block in (0..config.blocks.len()).map(block_name) {
        macs += block::macs(&block, &embed(), tokens, tokens);
        params += block::params(&block, &embed()) + embed() * scales;
    }
    CostModel { macs, params, dense: sizes(config) }
}

fn sizes(config: &VitConfig) -> Sizes {
    let mut sizes = Sizes::from([(EMBEDDING.into(), Size::flat(config.embed_dim))]);
    for (block, own) in config.blocks.iter().enumerate() {
        sizes.extend(own.sizes(&block_name(block)));
    }
    sizes
}

pub(super) fn resized(config: &VitConfig, wanted: &Sizes) -> Result<VitConfig> {
    expect_known(wanted, &sizes(config))?;
    let mut config = config.clone();
    config.embed_dim = wanted.get(EMBEDDING).map_or(config.embed_dim, |size| size.channels);
    for (block, own) in config.blocks.iter_mut().enumerate() {
        own.resize(&block_name(block), wanted);
    }
    Ok(config)
}

pub(super) fn standardised(config: &VitConfig, weights: &mut Weights) -> Result<VitConfig> {
    let mut config = config.clone();
    for (block, own) in config.blocks.iter_mut().enumerate() {
        own.fold_attention_scale(&block_name(block), weights)?;
    }
    Ok(config)
}
