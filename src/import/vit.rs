//! ViT and DeiT.

use super::family::{block_variable, Family, Positions, Translation};
use super::Naming;
use crate::models::VitConfig;

impl Family for VitConfig {
    const HEADS: &'static [&'static str] = &["head", "head_dist"];

    fn translate(naming: Naming, name: &str) -> Translation {
        match naming {
            Naming::Timm | Naming::OriginalSwin => Translation::Variable(name.into()),
            Naming::Transformers => translate(name),
        }
    }

    fn positions(&self) -> Option<Positions> {
        Some(Positions { prefix: self.prefix_tokens(), side: self.grid() })
    }
}

/// A name of transformers.
fn translate(name: &str) -> Translation {
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
    let Some((layer, part)) = bare.rsplit_once('.') else {
        return Translation::Unknown;
    };
    if !matches!(part, "weight" | "bias") {
        return Translation::Unknown;
    }
    match layer {
        "embeddings.patch_embeddings.projection" => {
            Translation::Variable(format!("patch_embed.proj.{part}"))
        }
        "layernorm" => Translation::Variable(format!("norm.{part}")),
        "classifier" | "cls_classifier" => Translation::Variable(format!("head.{part}")),
        "distillation_classifier" => Translation::Variable(format!("head_dist.{part}")),
        _ => translate_block(layer, part).unwrap_or(Translation::Unknown),
    }
}

fn translate_block(layer: &str, part: &str) -> Option<Translation> {
    let rest = layer.strip_prefix("encoder.layer.").or_else(|| layer.strip_prefix("layers."))?;
    let (block, layer) = rest.split_once('.')?;
    let block: usize = block.parse().ok()?;
    block_variable(&format!("blocks.{block}"), layer, part)
}
