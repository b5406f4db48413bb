//! Names and shapes of a Swin Transformer's variables, computed without building it.

use super::space::block_name;
use super::SwinConfig;
use crate::models::block::{linear, norm};
use crate::models::family::Blocks;
use crate::models::{Norm, Shapes};

pub(super) fn shapes(config: &SwinConfig) -> Shapes {
    let (first, patch) = (config.stages[0].embed_dim, config.patch_size);
    let mut shapes = Shapes::from([
        ("patch_embed.proj.weight".into(), vec![first, config.in_channels, patch, patch]),
        ("patch_embed.proj.bias".into(), vec![first]),
    ]);
    norm(&mut shapes, "patch_embed.norm", first, Norm::Layer);
    let mut width = first;
    for (stage, own) in config.stages.iter().enumerate() {
        if stage > 0 {
            let name = format!("layers.{stage}.downsample");
            norm(&mut shapes, &format!("{name}.norm"), 4 * width, Norm::Layer);
            shapes.insert(format!("{name}.reduction.weight"), vec![own.embed_dim, 4 * width]);
        }
        width = own.embed_dim;
        for (block, sizes) in own.blocks.iter().enumerate() {
            let name = block_name(stage, block);
            sizes.variables(&name, width, &config.style(), &mut shapes);
            let rows = config.windows(stage, block).relative_positions();
            if sizes.has_attention() {
                let table = format!("{name}.attn.relative_position_bias_table");
                shapes.insert(table, vec![rows, sizes.heads]);
            }
        }
    }
    norm(&mut shapes, "norm", width, Norm::Layer);
    linear(&mut shapes, "head.fc", width, config.classes);
    shapes
}
