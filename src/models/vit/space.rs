//! Search space and cost of a ViT.

use super::{Pooling, VitConfig};
use crate::cost::{CostModel, Polynomial};
use crate::models::block::{self, BlockConfig};
use crate::models::family::{sizes, Blocks};
use crate::space::{Binding, Candidates, Dimension, DimensionKind, SearchSpace};
use crate::Result;

/// Name of the embedding dimension.
pub(super) const EMBEDDING: &str = "embed";

pub(super) fn block_name(block: usize) -> String {
    format!("blocks.{block}")
}

impl Blocks for VitConfig {
    fn embeddings_mut(&mut self) -> Vec<(String, &mut i64)> {
        vec![(EMBEDDING.into(), &mut self.embed_dim)]
    }

    fn blocks_mut(&mut self) -> Vec<(String, &mut BlockConfig)> {
        let blocks = self.blocks.iter_mut().enumerate();
        blocks.map(|(block, own)| (block_name(block), own)).collect()
    }
}

pub(super) fn search_space(config: &VitConfig) -> Result<SearchSpace> {
    let mut dimensions = vec![embedding(config)?];
    for (block, sizes) in config.blocks.iter().enumerate() {
        dimensions.extend(sizes.dimensions(&block_name(block))?);
    }
    Ok(SearchSpace { dimensions })
}

/// The embedding, which is the width of the residual stream. Layers that make the tokens are gated;
/// layers that add to them are `written`, and fade out with the pruned units; layers that read them
/// are sliced alone.
fn embedding(config: &VitConfig) -> Result<Dimension> {
    let candidates = Candidates::embedding(config.embed_dim)?;
    let mut dimension = Dimension::new(EMBEDDING, DimensionKind::Embedding, candidates);
    let bindings = &mut dimension.bindings;
    norms(config, bindings);
    writers(config, bindings);
    let mut tokens = vec!["cls_token", "pos_embed"];
    let mut heads = vec!["head"];
    if config.distilled {
        tokens.push("dist_token");
        heads.push("head_dist");
    }
    bindings.extend(tokens.into_iter().map(|token| Binding::gated(token, 2)));
    for block in (0..config.blocks.len()).map(block_name) {
        for reader in ["attn.qkv", "mlp.fc1"] {
            bindings.push(Binding::narrowed(format!("{block}.{reader}.weight"), 1));
        }
    }
    for head in heads {
        let columns = Binding::narrowed(format!("{head}.weight"), 1);
        bindings.push(columns.outer(config.pooling.parts()));
    }
    Ok(dimension)
}

fn norms(config: &VitConfig, bindings: &mut Vec<Binding>) {
    let mut norms = vec!["norm".to_string()];
    for block in (0..config.blocks.len()).map(block_name) {
        norms.extend(["norm1", "norm2"].map(|norm| format!("{block}.{norm}")));
    }
    for norm in norms {
        bindings.push(Binding::scaled(format!("{norm}.weight"), 0));
        bindings.push(Binding::written(format!("{norm}.bias"), 0));
    }
}

/// The patch projection, and the layers that add to the embedding.
fn writers(config: &VitConfig, bindings: &mut Vec<Binding>) {
    let blocks = || (0..config.blocks.len()).map(block_name);
    for part in ["weight", "bias"] {
        bindings.push(Binding::gated(format!("patch_embed.proj.{part}"), 0));
        for block in blocks() {
            for writer in ["attn.proj", "mlp.fc2"] {
                let name = format!("{block}.{writer}.{part}");
                bindings.push(match config.layer_scale {
                    None => Binding::written(name, 0),
                    // LayerScale fades out in their place: both would fade the branch twice.
                    Some(_) => Binding::narrowed(name, 0),
                });
            }
        }
    }
    if config.layer_scale.is_some() {
        for block in blocks() {
            for scale in ["ls1", "ls2"] {
                bindings.push(Binding::written(format!("{block}.{scale}.gamma"), 0));
            }
        }
    }
}

pub(super) fn cost_model(config: &VitConfig) -> CostModel {
    // f64 throughout, because sizes that are out of range must not overflow here.
    let (patches, prefix) = ((config.grid() as f64).powi(2), config.prefix_tokens() as f64);
    let (tokens, classes) = (patches + prefix, config.classes as f64);
    let pixels = config.in_channels as f64 * (config.patch_size as f64).powi(2);
    let heads = if config.distilled { 2.0 } else { 1.0 };
    let columns = || Polynomial::units(EMBEDDING) * config.pooling.parts();
    let scales = if config.layer_scale.is_some() { 2 } else { 0 };
    let embed = || Polynomial::units(EMBEDDING);
    // How often the head is applied.
    let applied = if config.pooling == Pooling::Tokens { tokens } else { heads };

    let mut macs = embed() * (patches * pixels) + columns() * (classes * applied);
    // Patch projection with bias, prefix tokens, positions, final norm, heads with bias.
    let mut params =
        embed() * (pixels + 1.0 + prefix + tokens + 2.0) + (columns() + 1) * (classes * heads);
    for block in (0..config.blocks.len()).map(block_name) {
        macs += block::macs(&block, &embed(), tokens, tokens);
        params += block::params(&block, &embed()) + embed() * scales;
    }
    CostModel::new(macs, params, sizes(config))
}
