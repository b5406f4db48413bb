//! The evaluation of a ViT as data. `network.rs` computes the same.

use super::{Pooling, VitConfig};
use crate::models::block::BlockConfig;
use crate::models::graph::{Graph, Operation, Value};

pub(super) fn graph(config: &VitConfig) -> Graph {
    let mut graph = Graph::new([config.in_channels, config.image_size, config.image_size]);
    let mut x = tokens(&mut graph, config);
    for (block, sizes) in config.blocks.iter().enumerate() {
        x = transformer_block(&mut graph, x, config, &format!("blocks.{block}"), sizes);
    }
    let features = graph.then(x, norm(config, "norm".into()));
    let mut pooled = graph.then(features, Operation::Token { index: 0 });
    if config.pooling == Pooling::ClassAndMean {
        let mean = graph.then(features, Operation::MeanToken { first: 1 });
        pooled = graph.concatenate(pooled, mean);
    }
    let class = graph.linear(pooled, "head");
    if config.distilled {
        let token = graph.then(features, Operation::Token { index: 1 });
        let distillation = graph.linear(token, "head_dist");
        graph.mean(class, distillation);
    }
    graph
}

/// Patches, then the prefix tokens in front of them, then positions.
fn tokens(graph: &mut Graph, config: &VitConfig) -> Value {
    let projection =
        Operation::Patches { parameters: "patch_embed.proj".into(), patch: config.patch_size };
    let mut x = graph.then(Value::IMAGES, projection);
    // The class token comes first, so it is put in front last.
    if config.distilled {
        x = graph.then(x, Operation::Prepend { token: "dist_token".into() });
    }
    x = graph.then(x, Operation::Prepend { token: "cls_token".into() });
    graph.then(x, Operation::AddParameter { parameter: "pos_embed".into() })
}

fn transformer_block(
    graph: &mut Graph,
    x: Value,
    config: &VitConfig,
    name: &str,
    sizes: &BlockConfig,
) -> Value {
    let normed = graph.then(x, norm(config, format!("{name}.norm1")));
    let qkv = graph.linear(normed, format!("{name}.attn.qkv"));
    let attention = Operation::Attention {
        heads: sizes.heads,
        head_dim: sizes.head_dim,
        scale: sizes.attention_scale(),
    };
    let mixed = graph.then(qkv, attention);
    let attended = graph.linear(mixed, format!("{name}.attn.proj"));
    let attended = scaled(graph, attended, config, format!("{name}.ls1"));
    let x = graph.add(x, attended);

    let normed = graph.then(x, norm(config, format!("{name}.norm2")));
    let output = graph.mlp(normed, &format!("{name}.mlp"));
    let output = scaled(graph, output, config, format!("{name}.ls2"));
    graph.add(x, output)
}

fn norm(config: &VitConfig, parameters: String) -> Operation {
    Operation::LayerNorm { parameters, width: config.embed_dim, eps: config.norm_eps }
}

/// LayerScale, where there is one.
fn scaled(graph: &mut Graph, branch: Value, config: &VitConfig, name: String) -> Value {
    match config.layer_scale {
        None => branch,
        Some(_) => {
            graph.then(branch, Operation::ScaleParameter { parameter: format!("{name}.gamma") })
        }
    }
}
