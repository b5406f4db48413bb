//! Search space and cost of a ViT.

use super::{Pooling, PositionEmbedding, VitConfig};
use crate::cost::{CostModel, Polynomial};
use crate::models::attention_pool::AttentionPool;
use crate::models::block::{BlockConfig, BlockTokens};
use crate::models::family::{sizes, Blocks};
use crate::models::options::{BlockStyle, Norm};
use crate::models::rotary::Rotary;
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

    fn style(&self) -> BlockStyle {
        BlockStyle {
            norm: self.norm,
            norm_eps: self.norm_eps,
            activation: self.activation,
            mlp: self.mlp,
            qkv_bias: self.qkv_bias,
            qk_norm: self.qk_norm,
            layer_scale: self.layer_scale,
            rotary: self.rope.map(|rope| Rotary {
                rope,
                prefix: self.prefix_tokens(),
                grid: self.grid_size(),
            }),
        }
    }

    fn blocks_mut(&mut self) -> Vec<(String, &mut BlockConfig)> {
        let blocks = self.blocks.iter_mut().enumerate();
        blocks.map(|(block, own)| (block_name(block), own)).collect()
    }

    fn pool_mut(&mut self) -> Option<&mut AttentionPool> {
        match &mut self.pooling {
            Pooling::Attention(pool) => Some(pool),
            _ => None,
        }
    }
}

pub(super) fn search_space(config: &VitConfig) -> Result<SearchSpace> {
    let (mut dimensions, style) = (vec![embedding(config)?], config.style());
    // Without any attention, no token would learn of another.
    let stays = config.blocks.iter().position(BlockConfig::has_attention);
    for (block, sizes) in config.blocks.iter().enumerate() {
        dimensions.extend(sizes.dimensions(&block_name(block), &style, stays == Some(block))?);
    }
    if let Pooling::Attention(pool) = &config.pooling {
        dimensions.extend(pool.dimensions(&style.of_pool())?);
    }
    Ok(SearchSpace { dimensions })
}

/// The embedding, which is the width of the residual stream. Layers that make the tokens are gated;
/// layers that add to them are `written`, and fade out with the pruned units; layers that read them
/// are sliced alone. A norm before the blocks makes the tokens: what it reads is `written`.
fn embedding(config: &VitConfig) -> Result<Dimension> {
    let candidates = Candidates::embedding(config.embed_dim)?;
    let mut dimension = Dimension::new(EMBEDDING, DimensionKind::Embedding, candidates);
    let bindings = &mut dimension.bindings;
    norms(config, bindings);
    writers(config, bindings);
    let patches = ["weight", "bias"].into_iter().take(1 + usize::from(config.patch_bias));
    let patches = patches.map(|part| (format!("patch_embed.proj.{part}"), 0));
    let tokens = config.prefix().into_iter().map(|(token, _)| token);
    let tokens = tokens.chain(config.position_rows().map(|_| "pos_embed"));
    for (maker, axis) in patches.chain(tokens.map(|token| (token.to_owned(), 2))) {
        bindings.push(match config.pre_norm {
            true => Binding::written(maker, axis),
            false => Binding::gated(maker, axis),
        });
    }
    for (block, sizes) in config.blocks.iter().enumerate() {
        bindings.extend(sizes.readers(&block_name(block)));
    }
    if let Pooling::Attention(_) = config.pooling {
        bindings.push(AttentionPool::reader());
        return Ok(dimension);
    }
    for head in ["head", "head_dist"].into_iter().take(1 + usize::from(config.distilled)) {
        let columns = Binding::narrowed(format!("{head}.weight"), 1);
        bindings.push(columns.outer(config.pooling.parts()));
    }
    Ok(dimension)
}

fn norms(config: &VitConfig, bindings: &mut Vec<Binding>) {
    let mut norms = vec![config.pooling.norm().to_string()];
    for (block, sizes) in config.blocks.iter().enumerate() {
        norms.extend(sizes.norms(&block_name(block)));
    }
    let bias = |norm: &str| (config.norm == Norm::Layer).then(|| format!("{norm}.bias"));
    for norm in norms {
        bindings.push(Binding::scaled(format!("{norm}.weight"), 0));
        bindings.extend(bias(&norm).map(|bias| Binding::written(bias, 0)));
    }
    if config.pre_norm {
        bindings.push(Binding::gated_norm("norm_pre.weight", 0));
        bindings.extend(bias("norm_pre").map(|bias| Binding::gated(bias, 0)));
    }
}

/// The layers that add to the embedding.
fn writers(config: &VitConfig, bindings: &mut Vec<Binding>) {
    for (block, sizes) in config.blocks.iter().enumerate() {
        bindings.extend(sizes.writers(&block_name(block)).map(|name| match config.layer_scale {
            None => Binding::written(name, 0),
            // LayerScale fades out in their place: both would fade the branch twice.
            Some(_) => Binding::narrowed(name, 0),
        }));
    }
    if config.layer_scale.is_some() {
        for block in (0..config.blocks.len()).map(block_name) {
            for scale in ["ls1", "ls2"] {
                bindings.push(Binding::written(format!("{block}.{scale}.gamma"), 0));
            }
        }
    }
}

pub(super) fn cost_model(config: &VitConfig) -> CostModel {
    // f64 throughout, because sizes that are out of range must not overflow here.
    let product = |[rows, columns]: [i64; 2]| rows as f64 * columns as f64;
    let (patches, prefix) = (product(config.grid_size()), config.prefix_tokens() as f64);
    let (tokens, classes) = (patches + prefix, config.classes as f64);
    let pixels = config.in_channels as f64 * product(config.patch());
    let heads = if config.distilled { 2.0 } else { 1.0 };
    let style = config.style();
    let columns = || match config.pooling {
        Pooling::Attention(_) => Polynomial::units(&AttentionPool::embedding()),
        pooling => Polynomial::units(EMBEDDING) * pooling.parts(),
    };
    let embed = || Polynomial::units(EMBEDDING);
    let positions = match config.positions {
        PositionEmbedding::AllTokens => tokens,
        PositionEmbedding::Patches => patches,
        PositionEmbedding::None => 0.0,
    };
    // How often the head is applied.
    let applied = if config.pooling == Pooling::Tokens { tokens } else { heads };
    let biases = if config.head_bias { heads } else { heads - 1.0 };
    let norms = 1.0 + f64::from(u8::from(config.pre_norm));
    // Of one embedding channel: patch projection, prefix tokens, positions, norms outside of blocks.
    let own = pixels
        + f64::from(u8::from(config.patch_bias))
        + prefix
        + positions
        + norms * style.norm.parameters().len() as f64;

    let mut macs = embed() * (patches * pixels) + columns() * (classes * applied);
    let mut params = embed() * own + columns() * (classes * heads) + classes * biases;
    let each = BlockTokens { attention: tokens, context: tokens, mlp: tokens };
    for (block, sizes) in config.blocks.iter().enumerate() {
        let block = block_name(block);
        macs += sizes.macs(&block, &style, &embed(), &each);
        params += sizes.params(&block, &style, &embed());
    }
    if let Pooling::Attention(pool) = &config.pooling {
        let [of_macs, of_params] = pool.cost(&style.of_pool(), &embed(), patches);
        macs += of_macs;
        params += of_params;
    }
    CostModel::new(macs, params, sizes(config))
}
