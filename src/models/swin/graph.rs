//! The evaluation of a Swin Transformer as data. `network.rs` computes the same.

use super::space::block_name;
use super::SwinConfig;
use crate::models::graph::{Graph, Operation, Value};
use crate::models::BlockConfig;

pub(super) fn graph(config: &SwinConfig) -> Graph {
    let mut graph = Graph::new([config.in_channels, config.image_size, config.image_size]);
    let norm = |parameters: String, width: i64| Operation::LayerNorm {
        parameters,
        width,
        eps: config.norm_eps,
    };
    let patches =
        Operation::Patches { parameters: "patch_embed.proj".into(), patch: config.patch_size };
    let patches = graph.then(Value::IMAGES, patches);
    let mut width = config.stages[0].embed_dim;
    let mut x = graph.then(patches, norm("patch_embed.norm".into(), width));
    for (stage, own) in config.stages.iter().enumerate() {
        if stage > 0 {
            let name = format!("layers.{stage}.downsample");
            let merged = graph.then(x, Operation::Merge { grid: config.grid(stage - 1), width });
            let normed = graph.then(merged, norm(format!("{name}.norm"), 4 * width));
            let parameter = format!("{name}.reduction.weight");
            x = graph.then(normed, Operation::Project { parameter });
        }
        width = own.embed_dim;
        for (block, sizes) in own.blocks.iter().enumerate() {
            let name = block_name(stage, block);
            let normed = graph.then(x, norm(format!("{name}.norm1"), width));
            let attended = attention(&mut graph, normed, config, [stage, block], sizes);
            x = graph.add(x, attended);
            let normed = graph.then(x, norm(format!("{name}.norm2"), width));
            let output = graph.mlp(normed, &format!("{name}.mlp"));
            x = graph.add(x, output);
        }
    }
    let features = graph.then(x, norm("norm".into(), width));
    let pooled = graph.then(features, Operation::MeanToken { first: 0 });
    graph.linear(pooled, "head.fc");
    graph
}

fn attention(
    graph: &mut Graph,
    x: Value,
    config: &SwinConfig,
    [stage, block]: [usize; 2],
    sizes: &BlockConfig,
) -> Value {
    let windows = config.windows(stage, block);
    let name = format!("{}.attn", block_name(stage, block));
    let cut = graph.then(x, Operation::CutWindows(windows));
    let qkv = graph.linear(cut, format!("{name}.qkv"));
    let attention = Operation::WindowAttention {
        windows,
        table: format!("{name}.relative_position_bias_table"),
        heads: sizes.heads,
        head_dim: sizes.head_dim,
        scale: sizes.attention_scale(),
    };
    let mixed = graph.then(qkv, attention);
    let projected = graph.linear(mixed, format!("{name}.proj"));
    graph.then(projected, Operation::JoinWindows(windows))
}
