//! Names and shapes of a ViT's variables, known without building it.

use super::VitConfig;
use crate::models::Shapes;

pub(super) fn shapes(config: &VitConfig) -> Shapes {
    let (width, patch) = (config.embed_dim, config.patch_size);
    let mut shapes = Shapes::from([
        ("cls_token".into(), vec![1, 1, width]),
        ("pos_embed".into(), vec![1, config.tokens(), width]),
        ("patch_embed.proj.weight".into(), vec![width, config.in_channels, patch, patch]),
        ("patch_embed.proj.bias".into(), vec![width]),
    ]);
    for (block, sizes) in config.blocks.iter().enumerate() {
        let (inner, hidden) = (sizes.attention_dim(), sizes.hidden_dim);
        norm(&mut shapes, &format!("blocks.{block}.norm1"), width);
        linear(&mut shapes, &format!("blocks.{block}.attn.qkv"), width, 3 * inner);
        linear(&mut shapes, &format!("blocks.{block}.attn.proj"), inner, width);
        norm(&mut shapes, &format!("blocks.{block}.norm2"), width);
        linear(&mut shapes, &format!("blocks.{block}.mlp.fc1"), width, hidden);
        linear(&mut shapes, &format!("blocks.{block}.mlp.fc2"), hidden, width);
        if config.layer_scale.is_some() {
            for scale in ["ls1", "ls2"] {
                shapes.insert(format!("blocks.{block}.{scale}.gamma"), vec![width]);
            }
        }
    }
    norm(&mut shapes, "norm", width);
    linear(&mut shapes, "head", width * config.pooling.parts(), config.classes);
    if config.distilled {
        shapes.insert("dist_token".into(), vec![1, 1, width]);
        linear(&mut shapes, "head_dist", width, config.classes);
    }
    shapes
}

fn linear(shapes: &mut Shapes, name: &str, inputs: i64, outputs: i64) {
    shapes.insert(format!("{name}.weight"), vec![outputs, inputs]);
    shapes.insert(format!("{name}.bias"), vec![outputs]);
}

fn norm(shapes: &mut Shapes, name: &str, width: i64) {
    shapes.insert(format!("{name}.weight"), vec![width]);
    shapes.insert(format!("{name}.bias"), vec![width]);
}
