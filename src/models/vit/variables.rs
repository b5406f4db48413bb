//! Names and shapes of a ViT's variables, computed without building it.

use super::VitConfig;
use crate::models::block::{linear, norm};
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
        sizes.variables(&format!("blocks.{block}"), width, &mut shapes);
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
