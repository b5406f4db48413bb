//! What can be removed from a ViT, and what it costs.

use super::{BlockConfig, VitConfig};
use crate::cost::{CostModel, Polynomial};
use crate::space::{Binding, Cells, Dimension, DimensionKind, SearchSpace, Size, Sizes};
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::Tensor;

pub(super) const EMBEDDING: &str = "embed";

fn attention_name(block: usize) -> String {
    format!("blocks.{block}.attn")
}

fn hidden_name(block: usize) -> String {
    format!("blocks.{block}.mlp")
}

pub(super) fn search_space(config: &VitConfig) -> Result<SearchSpace> {
    let mut dimensions = vec![embedding(config)?];
    for (block, sizes) in config.blocks.iter().enumerate() {
        dimensions.push(attention(block, sizes)?);
        dimensions.push(hidden(block, sizes)?);
    }
    Ok(SearchSpace { dimensions })
}

/// The residual stream. What makes tokens is gated; what writes into it later lands with the units
/// that leave; every other axis it indexes follows.
fn embedding(config: &VitConfig) -> Result<Dimension> {
    let cells = Cells::embedding(config.embed_dim)?;
    let mut dimension = Dimension::new(EMBEDDING, DimensionKind::Embedding, cells);
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

fn attention(block: usize, sizes: &BlockConfig) -> Result<Dimension> {
    let cells = Cells::attention(sizes.heads, sizes.head_dim)?;
    let name = attention_name(block);
    Ok(Dimension::new(&name, DimensionKind::Attention, cells)
        .bind(Binding::gated(format!("{name}.qkv.weight"), 0).outer(3))
        .bind(Binding::gated(format!("{name}.qkv.bias"), 0).outer(3))
        .bind(Binding::narrowed(format!("{name}.proj.weight"), 1)))
}

fn hidden(block: usize, sizes: &BlockConfig) -> Result<Dimension> {
    let name = hidden_name(block);
    Ok(Dimension::new(&name, DimensionKind::Hidden, Cells::hidden(sizes.hidden_dim)?)
        .bind(Binding::gated(format!("{name}.fc1.weight"), 0))
        .bind(Binding::gated(format!("{name}.fc1.bias"), 0))
        .bind(Binding::narrowed(format!("{name}.fc2.weight"), 1)))
}

pub(super) fn cost_model(config: &VitConfig) -> CostModel {
    let (tokens, patches) = (config.tokens(), config.grid() * config.grid());
    let pixels = config.in_channels * config.patch_size * config.patch_size;
    let heads = if config.distilled { 2 } else { 1 };
    let columns = || Polynomial::units(EMBEDDING) * config.pooling.parts();
    let scales = if config.layer_scale.is_some() { 2 } else { 0 };
    let embed = || Polynomial::units(EMBEDDING);

    let mut macs = embed() * (patches * pixels) + columns() * (config.classes * heads);
    // Patch projection with bias, prefix tokens, positions, last norm, heads with bias.
    let mut params = embed() * (pixels + 1 + config.prefix_tokens() + tokens + 2)
        + (columns() + 1) * (config.classes * heads);
    for block in 0..config.blocks.len() {
        let attention = || Polynomial::units(&attention_name(block));
        let hidden = || Polynomial::units(&hidden_name(block));
        // q, k, v and the output projection; then q·kᵀ and the mix of values.
        macs += embed() * attention() * (4 * tokens) + attention() * (2 * tokens * tokens);
        macs += embed() * hidden() * (2 * tokens);
        params += (embed() + 1) * attention() * 3 + embed() * (attention() + 1);
        params += (embed() + 1) * hidden() + embed() * (hidden() + 1) + embed() * (4 + scales);
    }
    CostModel { macs, params, dense: sizes(config) }
}

fn sizes(config: &VitConfig) -> Sizes {
    let mut sizes = Sizes::from([(EMBEDDING.into(), Size::flat(config.embed_dim))]);
    for (block, own) in config.blocks.iter().enumerate() {
        let attention = Size { heads: own.heads, channels: own.head_dim };
        sizes.insert(attention_name(block), attention);
        sizes.insert(hidden_name(block), Size::flat(own.hidden_dim));
    }
    sizes
}

pub(super) fn resized(config: &VitConfig, wanted: &Sizes) -> Result<VitConfig> {
    let known = sizes(config);
    if let Some(name) = wanted.keys().find(|name| !known.contains_key(*name)) {
        let known = known.into_keys().collect::<Vec<_>>().join(", ");
        return Err(Error::Unknown { kind: "dimension", name: name.clone(), known });
    }
    let mut config = config.clone();
    config.embed_dim = wanted.get(EMBEDDING).map_or(config.embed_dim, |size| size.channels);
    for (block, own) in config.blocks.iter_mut().enumerate() {
        if let Some(size) = wanted.get(&attention_name(block)) {
            (own.heads, own.head_dim) = (size.heads, size.channels);
        }
        if let Some(size) = wanted.get(&hidden_name(block)) {
            own.hidden_dim = size.channels;
        }
    }
    Ok(config)
}

/// q·k/√scale_dim = (q·√(head_dim/scale_dim))·k/√head_dim: the factor goes into the rows of q.
pub(super) fn fold_attention_scale(
    config: &VitConfig,
    weights: &mut BTreeMap<String, Tensor>,
) -> Result<VitConfig> {
    let mut config = config.clone();
    for (block, sizes) in config.blocks.iter_mut().enumerate() {
        let factor = (sizes.head_dim as f64 / sizes.scale_dim as f64).sqrt();
        for part in ["weight", "bias"] {
            scale_rows(
                weights,
                &format!("{}.qkv.{part}", attention_name(block)),
                sizes.attention_dim(),
                factor,
            )?;
        }
        sizes.scale_dim = sizes.head_dim;
    }
    Ok(config)
}

/// Multiplies the first `rows` rows of a weight, leaving the caller's tensor as it was.
fn scale_rows(
    weights: &mut BTreeMap<String, Tensor>,
    name: &str,
    rows: i64,
    factor: f64,
) -> Result<()> {
    if factor == 1.0 {
        return Ok(());
    }
    let known = || weights.keys().cloned().collect::<Vec<_>>().join(", ");
    let Some(weight) = weights.get(name) else {
        return Err(Error::Unknown { kind: "variable", name: name.into(), known: known() });
    };
    let rest = weight.size()[0] - rows;
    let scaled = weight.f_narrow(0, 0, rows)?.f_mul_scalar(factor)?;
    let folded = Tensor::f_cat(&[scaled, weight.f_narrow(0, rows, rest)?], 0)?;
    weights.insert(name.into(), folded);
    Ok(())
}
