//! Search space and cost of a Swin Transformer.

use super::SwinConfig;
use crate::cost::{CostModel, Polynomial};
use crate::models::block::{attention_name, BlockConfig, BlockTokens};
use crate::models::family::{sizes, Blocks};
use crate::models::options::BlockStyle;
use crate::space::{Binding, Candidates, Dimension, DimensionKind, SearchSpace};
use crate::Result;

/// Name of the embedding dimension of a stage.
pub(super) fn embedding_name(stage: usize) -> String {
    format!("layers.{stage}.embed")
}

pub(super) fn block_name(stage: usize, block: usize) -> String {
    format!("layers.{stage}.blocks.{block}")
}

impl Blocks for SwinConfig {
    fn embeddings_mut(&mut self) -> Vec<(String, &mut i64)> {
        let stages = self.stages.iter_mut().enumerate();
        stages.map(|(stage, own)| (embedding_name(stage), &mut own.embed_dim)).collect()
    }

    fn style(&self) -> BlockStyle {
        BlockStyle::plain(self.norm_eps)
    }

    fn blocks_mut(&mut self) -> Vec<(String, &mut BlockConfig)> {
        let mut blocks = Vec::new();
        for (stage, own) in self.stages.iter_mut().enumerate() {
            let named = own.blocks.iter_mut().enumerate();
            blocks.extend(named.map(|(block, sizes)| (block_name(stage, block), sizes)));
        }
        blocks
    }
}

/// Stage by stage: the embedding, then the dimensions of each block.
pub(super) fn search_space(config: &SwinConfig) -> Result<SearchSpace> {
    let mut dimensions = Vec::new();
    for (stage, own) in config.stages.iter().enumerate() {
        dimensions.push(embedding(config, stage)?);
        // A stage without any attention would only merge patches.
        let stays = own.blocks.iter().position(BlockConfig::has_attention);
        for (block, sizes) in own.blocks.iter().enumerate() {
            let name = block_name(stage, block);
            let mut all = sizes.dimensions(&name, &config.style(), stays == Some(block))?;
            let table = format!("{name}.attn.relative_position_bias_table");
            let attention = all.iter_mut().filter(|own| own.name == attention_name(&name));
            attention.for_each(|own| {
                own.bindings.push(Binding::narrowed(&table, 1).over_heads());
            });
            dimensions.extend(all);
        }
    }
    Ok(SearchSpace { dimensions })
}

/// The embedding of a stage. The layer that makes its tokens is gated: the norm after the patch
/// projection, or the projection of the patch merging. Layers that add to them are `written`, and
/// fade out with the pruned units.
fn embedding(config: &SwinConfig, stage: usize) -> Result<Dimension> {
    let candidates = Candidates::embedding(config.stages[stage].embed_dim)?;
    let mut dimension = Dimension::new(embedding_name(stage), DimensionKind::Embedding, candidates);
    let mut bind = |binding: Binding| dimension.bindings.push(binding);
    if stage == 0 {
        bind(Binding::gated_norm("patch_embed.norm.weight", 0));
        bind(Binding::gated("patch_embed.norm.bias", 0));
        bind(Binding::written("patch_embed.proj.weight", 0));
        bind(Binding::written("patch_embed.proj.bias", 0));
    } else {
        bind(Binding::gated(format!("layers.{stage}.downsample.reduction.weight"), 0));
    }
    for (block, sizes) in config.stages[stage].blocks.iter().enumerate() {
        let block = block_name(stage, block);
        for norm in sizes.norms(&block) {
            bind(Binding::scaled(format!("{norm}.weight"), 0));
            bind(Binding::written(format!("{norm}.bias"), 0));
        }
        sizes.writers(&block).for_each(|writer| bind(Binding::written(writer, 0)));
        sizes.readers(&block).for_each(&mut bind);
    }
    // The embedding is read at the end of the stage: by the patch merging, which concatenates four
    // tokens, or by the head.
    let (norm, reader, tokens) = match stage + 1 == config.stages.len() {
        true => ("norm".into(), "head.fc".into(), 1),
        false => {
            let next = format!("layers.{}.downsample", stage + 1);
            (format!("{next}.norm"), format!("{next}.reduction"), 4)
        }
    };
    bind(Binding::scaled(format!("{norm}.weight"), 0).outer(tokens));
    bind(Binding::written(format!("{norm}.bias"), 0).outer(tokens));
    bind(Binding::narrowed(format!("{reader}.weight"), 1).outer(tokens));
    Ok(dimension)
}

pub(super) fn cost_model(config: &SwinConfig) -> CostModel {
    // f64 throughout, because sizes that are out of range must not overflow here.
    let pixels = config.in_channels as f64 * (config.patch_size as f64).powi(2);
    let tokens = |stage: usize| (config.grid(stage) as f64).powi(2);
    let embed = |stage: usize| Polynomial::units(&embedding_name(stage));
    let last = config.stages.len().saturating_sub(1);

    let mut macs = embed(0) * (tokens(0) * pixels) + embed(last) * config.classes;
    // Patch projection with bias and norm; final norm, head with bias.
    let mut params =
        embed(0) * (pixels + 3.0) + embed(last) * 2 + (embed(last) + 1) * config.classes;
    for stage in 1..config.stages.len() {
        let merged = || embed(stage - 1) * 4;
        macs += merged() * embed(stage) * tokens(stage);
        params += merged() * (embed(stage) + 2);
    }
    let style = config.style();
    for (stage, block, sizes) in config.blocks() {
        let (name, windows) = (block_name(stage, block), config.windows(stage, block));
        // Tokens of the padding have queries, keys and values, too.
        let in_windows = (windows.padded() as f64).powi(2);
        let tokens = BlockTokens {
            attention: in_windows,
            context: windows.tokens() as f64,
            mlp: tokens(stage),
        };
        macs += sizes.macs(&name, &style, &embed(stage), &tokens);
        params += sizes.params(&name, &style, &embed(stage))
            + Polynomial::heads(&attention_name(&name)) * windows.relative_positions();
    }
    CostModel::new(macs, params, sizes(config))
}
