//! Names and shapes of a ViT's variables, computed without building it.

use super::{Pooling, VitConfig};
use crate::models::block::{linear, norm};
use crate::models::family::Blocks;
use crate::models::Shapes;

pub(super) fn shapes(config: &VitConfig) -> Shapes {
    let (width, [rows, columns], style) = (config.embed_dim, config.patch(), config.style());
    let mut shapes = Shapes::new();
    let mut add = |name: &str, shape: Vec<i64>| drop(shapes.insert(name.into(), shape));
    for (token, count) in config.prefix() {
        add(token, vec![1, count, width]);
    }
    if let Some(rows) = config.position_rows() {
        add("pos_embed", vec![1, rows, width]);
    }
    add("patch_embed.proj.weight", vec![width, config.in_channels, rows, columns]);
    if config.patch_bias {
        add("patch_embed.proj.bias", vec![width]);
    }
    if config.pre_norm {
        norm(&mut shapes, "norm_pre", width, style.norm);
    }
    for (block, sizes) in config.blocks.iter().enumerate() {
        sizes.variables(&format!("blocks.{block}"), width, &style, &mut shapes);
    }
    norm(&mut shapes, config.pooling.norm(), width, style.norm);
    if let Pooling::Attention(pool) = &config.pooling {
        pool.variables(width, &style.of_pool(), &mut shapes);
    }
    linear(&mut shapes, "head", config.head_columns(), config.classes);
    if !config.head_bias {
        shapes.remove("head.bias");
    }
    if config.distilled {
        linear(&mut shapes, "head_dist", width, config.classes);
    }
    shapes
}
