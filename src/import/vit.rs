//! Import into ViT and DeiT.

use super::family::{block_variable, of_blocks, PositionTable, Pretrained, Translation};
use super::recognise::is_swin;
use super::{Assumption, Naming};
use crate::models::VitConfig;
use crate::tensors::Weights;

impl Pretrained for VitConfig {
    const HEADS: &'static [&'static str] = &["head", "head_dist"];
    const OPTIONAL: &'static [&'static str] = &["dist_token", "head_dist"];
    const PATCH_PROJECTION: Option<&'static str> = Some("patch_embed.proj.weight");

    fn naming(checkpoint: &Weights) -> Option<Naming> {
        Naming::recognise(checkpoint).filter(|_| !is_swin(checkpoint))
    }

    fn translate(naming: Naming, name: &str) -> Translation {
        match naming {
            Naming::Transformers => transformers(name),
            // Of masked pretraining, as in DINOv2.
            _ if name == "mask_token" => Translation::Unused,
            _ => Translation::Variable(name.into()),
        }
    }

    fn position_table(&self) -> Option<PositionTable> {
        Some(PositionTable {
            variable: "pos_embed",
            prefix_tokens: &["cls_token", "dist_token"],
            prefix: self.prefix_tokens(),
            side: self.grid(),
        })
    }

    fn assumptions(&self, _naming: Naming) -> Vec<Assumption> {
        let (side, grid) = (self.image_size, self.grid());
        let mut assumed = of_blocks(&self.blocks);
        assumed.extend([
            Assumption::new("norm_eps", format!("{:e}", self.norm_eps)),
            Assumption::new("pooling", self.pooling.words()),
            Assumption::new("norms", "before attention and MLP, and one at the end"),
            Assumption::new("image", format!("{side} x {side} pixels, {grid} x {grid} patches")),
        ]);
        assumed
    }
}

fn transformers(name: &str) -> Translation {
    let bare = name.strip_prefix("vit.").or_else(|| name.strip_prefix("deit.")).unwrap_or(name);
    match bare {
        "embeddings.cls_token" => return Translation::Variable("cls_token".into()),
        "embeddings.distillation_token" => return Translation::Variable("dist_token".into()),
        "embeddings.position_embeddings" => return Translation::Variable("pos_embed".into()),
        "embeddings.mask_token" | "pooler.dense.weight" | "pooler.dense.bias" => {
            return Translation::Unused;
        }
        _ => {}
    }
    let Some((layer, parameter)) = bare.rsplit_once('.') else {
        return Translation::Unknown;
    };
    if !matches!(parameter, "weight" | "bias") {
        return Translation::Unknown;
    }
    let own = match layer {
        "embeddings.patch_embeddings.projection" => "patch_embed.proj",
        "layernorm" => "norm",
        "classifier" | "cls_classifier" => "head",
        "distillation_classifier" => "head_dist",
        _ => return in_block(layer, parameter).unwrap_or(Translation::Unknown),
    };
    Translation::Variable(format!("{own}.{parameter}"))
}

fn in_block(layer: &str, parameter: &str) -> Option<Translation> {
    let rest = layer.strip_prefix("encoder.layer.").or_else(|| layer.strip_prefix("layers."))?;
    let (block, layer) = rest.split_once('.')?;
    let block: usize = block.parse().ok()?;
    block_variable(&format!("blocks.{block}"), layer, parameter)
}
