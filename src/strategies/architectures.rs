//! Random dimensions, architectures and budgets.

use super::dimension_units::candidates;
use crate::cost::{CostLimit, Metric};
use crate::models::{
    Activation, Architecture, AttentionPool, BlockConfig, Mlp, Norm, Pooling, PositionEmbedding,
    QkvBias, Rope, VitConfig,
};
use crate::space::{Binding, Dimension, DimensionKind, Size};
use crate::Result;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Dimensions of any kind that gate the rows of a matrix, `{name}.weight`, and narrow the columns of
/// another, `{name}.out.weight`. Shrink to one unit.
pub fn dimensions(name: &'static str) -> impl Strategy<Value = Dimension> {
    let flat_kinds = prop_oneof![Just(DimensionKind::Hidden), Just(DimensionKind::Embedding)];
    (candidates(), flat_kinds, 1..=3i64).prop_map(move |(candidates, flat, outer)| {
        let kind = if candidates.heads() > 1 { DimensionKind::Attention } else { flat };
        let removable = candidates.removable();
        let dimension = Dimension::new(name, kind, candidates);
        Dimension { removable, ..dimension }
            .bind(Binding::gated(format!("{name}.weight"), 0).outer(outer))
            .bind(Binding::narrowed(format!("{name}.out.weight"), 1))
    })
}

/// Small ViTs: images of 1 to 8 pixels a side, one to three blocks of different sizes, some of them without attention or
/// MLP, with any combination of the options of [`VitConfig`]. Shrink to the smallest.
pub fn vit_configs() -> impl Strategy<Value = VitConfig> {
    let sizes = (1..=3i64, 1..=4i64, 1..=12i64, option::weighted(0.3, 1..=4i64));
    let block =
        sizes.prop_map(|(h, d, m, qk_dim)| BlockConfig { qk_dim, ..BlockConfig::new(h, d, m) });
    let removed = || proptest::bool::weighted(0.2);
    let block = (block, removed(), removed());
    let input = (1..=2i64, 1..=4i64, 1..=3i64, 1..=4i64);
    let sizes = (input, 1..=12i64, vec(block, 1..=3));
    let scale = (option::of(0.5..1.5), option::of((1..=2i64, 1..=3i64)));
    (sizes, tokens(), block_options(), scale, any::<[bool; 3]>()).prop_map(
        |(
            ((grid, patch, channels, classes), embed_dim, blocks),
            (distilled, pooling, class_token, registers, positions),
            (norm, activation, mlp, qkv_bias, qk_norm, rope),
            (layer_scale, wide),
            [pre_norm, patch_bias, head_bias],
        )| VitConfig {
            embed_dim,
            blocks: {
                let one_width = qk_norm.is_some() || qkv_bias == QkvBias::QueryValue;
                without_removed(blocks).map(|block| fitted(block, rope, one_width)).collect()
            },
            distilled,
            layer_scale,
            pooling: if distilled { Pooling::ClassToken } else { pooling },
            class_token: class_token || distilled || pooling.needs_class_token(),
            registers,
            positions,
            patch_bias,
            pre_norm,
            norm,
            activation,
            mlp,
            qkv_bias,
            qk_norm,
            head_bias,
            rope,
            image_width: wide.map(|(columns, width)| columns * width),
            patch_width: wide.map(|(_, width)| width),
            ..VitConfig::uniform(embed_dim, 0, 1)
                .input(grid * patch, channels, patch)
                .classes(classes)
        },
    )
}

/// Distillation token, pooling, class token, registers and positions. Shrink to those of a plain ViT.
fn tokens() -> impl Strategy<Value = (bool, Pooling, bool, i64, PositionEmbedding)> {
    let pooling = prop_oneof![
        Just(Pooling::ClassToken),
        Just(Pooling::ClassAndMean),
        Just(Pooling::Tokens),
        Just(Pooling::Mean),
        Just(Pooling::MeanNorm),
        attention_pool().prop_map(Pooling::Attention),
    ];
    let positions = prop_oneof![
        Just(PositionEmbedding::AllTokens),
        Just(PositionEmbedding::Patches),
        Just(PositionEmbedding::None),
    ];
    (any::<bool>(), pooling, any::<bool>(), 0..=2i64, positions)
}

fn attention_pool() -> impl Strategy<Value = AttentionPool> {
    let sizes = (1..=2i64, 1..=3i64, 1..=6i64).prop_map(|(h, d, m)| BlockConfig::new(h, d, m));
    (sizes, 1..=4i64, 1..=6i64).prop_map(|(sizes, latent_dim, embed_dim)| AttentionPool {
        sizes,
        latent_dim,
        embed_dim,
    })
}

/// Options of the blocks. Shrink to those of a plain ViT.
fn block_options(
) -> impl Strategy<Value = (Norm, Activation, Mlp, QkvBias, Option<Norm>, Option<Rope>)> {
    let norm = || prop_oneof![Just(Norm::Layer), Just(Norm::Rms)];
    let activation = prop_oneof![
        Just(Activation::Gelu),
        Just(Activation::GeluTanh),
        Just(Activation::QuickGelu),
        Just(Activation::Relu),
    ];
    let mlp = prop_oneof![Just(Mlp::Plain), Just(Mlp::SwiGlu)];
    let bias = prop_oneof![Just(QkvBias::Full), Just(QkvBias::None), Just(QkvBias::QueryValue)];
    let rope = prop_oneof![
        Just(Rope::Grid { base: 100.0, reference: 2 }),
        Just(Rope::Normalised { base: 10.0 }),
    ];
    (norm(), activation, mlp, bias, option::of(norm()), option::of(rope))
}

/// Blocks with flags that remove attention and MLP; the first attention stays.
fn without_removed(blocks: Vec<(BlockConfig, bool, bool)>) -> impl Iterator<Item = BlockConfig> {
    let blocks = blocks.into_iter().enumerate();
    blocks.map(|(at, (own, attention, mlp))| BlockConfig {
        heads: if attention && at > 0 { 0 } else { own.heads },
        hidden_dim: if mlp { 0 } else { own.hidden_dim },
        ..own
    })
}

/// A block whose head channels are pairs if they are rotated, and of one width for queries, keys and values if another
/// option of the network `needs` it.
fn fitted(block: BlockConfig, rope: Option<Rope>, needs: bool) -> BlockConfig {
    let qk_dim = block.qk_dim.filter(|_| !needs);
    match rope {
        None => BlockConfig { qk_dim, ..block },
        Some(_) => BlockConfig::new(block.heads, 2 * block.head_dim, block.hidden_dim),
    }
}

/// Limits on MACs or parameters between the cost of the smallest subnet in the default search space of `architecture`
/// with [removable branches](crate::space::SearchSpace::removable_branches) and that of the dense network. Shrink to the smallest.
///
/// # Errors
/// Those of [`Architecture::space`].
pub fn budgets<A: Architecture>(architecture: &A) -> Result<impl Strategy<Value = CostLimit>> {
    let ranges = [
        (Metric::Macs, cost_range(architecture, Metric::Macs)?),
        (Metric::Params, cost_range(architecture, Metric::Params)?),
    ];
    Ok((0..2usize, 0.0..=1.0f64).prop_map(move |(which, share)| {
        let (metric, (least, most)) = ranges[which];
        CostLimit { metric, limit: least + share * (most - least) }
    }))
}

fn cost_range<A: Architecture>(architecture: &A, metric: Metric) -> Result<(f64, f64)> {
    let space = architecture.space()?.removable_branches();
    let sizes = |dimension: &Dimension| dimension.candidates.sizes().collect::<Vec<Size>>();
    let candidates: Vec<Vec<Size>> = space.dimensions.iter().map(sizes).collect();
    architecture.cost_model().range(metric, &space, &candidates)
}
