//! Graph of a ViT's forward pass in evaluation; `network.rs` computes the same.

use super::{Pooling, PositionEmbedding, VitConfig};
use crate::models::family::Blocks;
use crate::models::graph::{BlockSteps, Graph, Operation, Value};

pub(super) fn graph(config: &VitConfig) -> Graph {
    let mut graph = Graph::new(config.input_shape());
    let (width, style) = (config.embed_dim, config.style());
    let mut x = tokens(&mut graph, config);
    if config.pre_norm {
        x = graph.norm(x, "norm_pre", width, &style);
    }
    for (block, sizes) in config.blocks.iter().enumerate() {
        let steps = BlockSteps { name: format!("blocks.{block}"), width, sizes: *sizes, style };
        let name = format!("{}.attn", steps.name);
        x = graph.block(x, &steps, |graph, x| graph.attention(x, &name, sizes, &style));
    }
    let mean = Operation::MeanToken { first: config.prefix_tokens() };
    let token = Operation::Token { index: 0 };
    if config.pooling == Pooling::MeanNorm {
        let pooled = graph.then(x, mean);
        let pooled = graph.norm(pooled, config.pooling.norm(), width, &style);
        head(&mut graph, pooled, config);
        return graph;
    }
    let features = graph.norm(x, config.pooling.norm(), width, &style);
    let pooled = match config.pooling {
        Pooling::ClassToken => graph.then(features, token),
        Pooling::ClassAndMean => {
            let class = graph.then(features, token);
            let mean = graph.then(features, mean);
            graph.concatenate(class, mean)
        }
        Pooling::Mean => graph.then(features, mean),
        Pooling::Attention(pool) => {
            pool.steps(&mut graph, features, config.prefix_tokens(), &style.of_pool())
        }
        Pooling::Tokens | Pooling::MeanNorm => features,
    };
    let class = head(&mut graph, pooled, config);
    if config.distilled {
        let token = graph.then(features, Operation::Token { index: 1 });
        let distillation = graph.linear(token, "head_dist");
        graph.mean(class, distillation);
    }
    graph
}

fn head(graph: &mut Graph, pooled: Value, config: &VitConfig) -> Value {
    match config.head_bias {
        true => graph.linear(pooled, "head"),
        false => graph.then(pooled, Operation::Project { parameter: "head.weight".into() }),
    }
}

/// Adds the patch projection, the prefix tokens and the positions.
fn tokens(graph: &mut Graph, config: &VitConfig) -> Value {
    let (parameters, patch) = ("patch_embed.proj".into(), config.patch());
    let projection = Operation::Patches { parameters, patch, bias: config.patch_bias };
    let mut x = graph.then(Value::IMAGES, projection);
    let add = |graph: &mut Graph, x| {
        graph.then(x, Operation::AddParameter { parameter: "pos_embed".into() })
    };
    if config.positions == PositionEmbedding::Patches {
        x = add(graph, x);
    }
    // Each is put in front of all others, so the class token, which comes first, is added last.
    for (token, _) in config.prefix().into_iter().rev() {
        x = graph.then(x, Operation::Prepend { token: token.into() });
    }
    match config.positions {
        PositionEmbedding::AllTokens => add(graph, x),
        PositionEmbedding::Patches | PositionEmbedding::None => x,
    }
}
