//! Graph of a Swin Transformer's forward pass in evaluation; `network.rs` computes the same.

use super::space::block_name;
use super::SwinConfig;
use crate::models::family::Blocks;
use crate::models::graph::{BlockSteps, Graph, Operation, Value};
use crate::models::Windows;

pub(super) fn graph(config: &SwinConfig) -> Graph {
    let mut graph = Graph::new([config.in_channels, config.image_size, config.image_size]);
    let style = config.style();
    let (parameters, patch) = ("patch_embed.proj".into(), [config.patch_size; 2]);
    let patches = graph.then(Value::IMAGES, Operation::Patches { parameters, patch, bias: true });
    let mut width = config.stages[0].embed_dim;
    let mut x = graph.norm(patches, "patch_embed.norm", width, &style);
    for (stage, own) in config.stages.iter().enumerate() {
        if stage > 0 {
            let name = format!("layers.{stage}.downsample");
            let merged = graph.then(x, Operation::Merge { grid: config.grid(stage - 1), width });
            let normed = graph.norm(merged, format!("{name}.norm"), 4 * width, &style);
            let parameter = format!("{name}.reduction.weight");
            x = graph.then(normed, Operation::Project { parameter });
        }
        width = own.embed_dim;
        for (block, sizes) in own.blocks.iter().enumerate() {
            let name = block_name(stage, block);
            let steps = BlockSteps { name, width, sizes: *sizes, style };
            let windows = config.windows(stage, block);
            x = graph.block(x, &steps, |graph, x| attention(graph, x, &steps, windows));
        }
    }
    let features = graph.norm(x, "norm", width, &style);
    let pooled = graph.then(features, Operation::MeanToken { first: 0 });
    graph.linear(pooled, "head.fc");
    graph
}

fn attention(graph: &mut Graph, x: Value, block: &BlockSteps, windows: Windows) -> Value {
    let BlockSteps { name, sizes, style, .. } = block;
    let name = format!("{name}.attn");
    let partitioned = graph.then(x, Operation::WindowPartition(windows));
    let parts = graph.projections(partitioned, &name, sizes.head_sizes(), style);
    let attention = Operation::WindowAttention {
        windows,
        table: format!("{name}.relative_position_bias_table"),
        sizes: sizes.head_sizes(),
        scale: sizes.attention_scale(),
    };
    let mixed = graph.push(attention, parts);
    let projected = graph.linear(mixed, format!("{name}.proj"));
    graph.then(projected, Operation::WindowReverse(windows))
}
