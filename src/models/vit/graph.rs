//! Graph of a ViT's forward pass in evaluation; `network.rs` computes the same.

use super::{Pooling, VitConfig};
use crate::models::block::BlockConfig;
use crate::models::graph::{BlockSteps, Graph, Operation, Value};

pub(super) fn graph(config: &VitConfig) -> Graph {
    let mut graph = Graph::new([config.in_channels, config.image_size, config.image_size]);
    let mut x = tokens(&mut graph, config);
    for (block, sizes) in config.blocks.iter().enumerate() {
        let steps = BlockSteps {
            name: format!("blocks.{block}"),
            width: config.embed_dim,
            eps: config.norm_eps,
            layer_scale: config.layer_scale.is_some(),
        };
        x = graph.block(x, &steps, |graph, x| attention(graph, x, &steps.name, sizes));
    }
    let norm = Operation::LayerNorm {
        parameters: "norm".into(),
        width: config.embed_dim,
        eps: config.norm_eps,
    };
    let features = graph.then(x, norm);
    let token = Operation::Token { index: 0 };
    let pooled = match config.pooling {
        Pooling::ClassToken => graph.then(features, token),
        Pooling::ClassAndMean => {
            let class = graph.then(features, token);
            let mean = graph.then(features, Operation::MeanToken { first: 1 });
            graph.concatenate(class, mean)
        }
        Pooling::Tokens => features,
    };
    let class = graph.linear(pooled, "head");
    if config.distilled {
        let token = graph.then(features, Operation::Token { index: 1 });
        let distillation = graph.linear(token, "head_dist");
        graph.mean(class, distillation);
    }
    graph
}

/// Adds the patch projection, the prefix tokens and the positions.
fn tokens(graph: &mut Graph, config: &VitConfig) -> Value {
    let projection =
        Operation::Patches { parameters: "patch_embed.proj".into(), patch: config.patch_size };
    let mut x = graph.then(Value::IMAGES, projection);
    // Each is put in front of all others, so the class token, which comes first, is added last.
    if config.distilled {
        x = graph.then(x, Operation::Prepend { token: "dist_token".into() });
    }
    x = graph.then(x, Operation::Prepend { token: "cls_token".into() });
    graph.then(x, Operation::AddParameter { parameter: "pos_embed".into() })
}

fn attention(graph: &mut Graph, x: Value, name: &str, sizes: &BlockConfig) -> Value {
    let qkv = graph.linear(x, format!("{name}.attn.qkv"));
    let attention = Operation::Attention {
        heads: sizes.heads,
        head_dim: sizes.head_dim,
        scale: sizes.attention_scale(),
    };
    let mixed = graph.then(qkv, attention);
    graph.linear(mixed, format!("{name}.attn.proj"))
}
