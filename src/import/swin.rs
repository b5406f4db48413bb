//! Swin Transformers.
//!
//! timm merges tokens at the start of a stage, the original and transformers at the end of the one
//! before; what their checkpoints keep of windows is computed here.

use super::family::{block_variable, Family, Positions, Translation};
use super::Naming;
use crate::models::SwinConfig;

impl Family for SwinConfig {
    const HEADS: &'static [&'static str] = &["head.fc"];

    fn translate(naming: Naming, name: &str) -> Translation {
        let Some((layer, part)) = name.rsplit_once('.') else {
            return Translation::Unknown;
        };
        if matches!(part, "relative_position_index" | "attn_mask") {
            return Translation::Computed;
        }
        match naming {
            Naming::Timm => Translation::Variable(format!("{}.{part}", head(layer))),
            Naming::OriginalSwin => original(layer, part),
            Naming::Transformers => transformers(layer, part),
        }
    }

    fn positions(&self) -> Option<Positions> {
        None
    }
}

fn original(layer: &str, part: &str) -> Translation {
    let stage = layer.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    match stage.and_then(|(stage, rest)| Some((stage.parse::<usize>().ok()?, rest))) {
        Some((stage, rest)) if rest.starts_with("downsample.") => merging(stage, rest, part),
        _ => Translation::Variable(format!("{}.{part}", head(layer))),
    }
}

/// The classifier, which timm once called `head`, as the original does.
fn head(layer: &str) -> &str {
    if layer == "head" {
        "head.fc"
    } else {
        layer
    }
}

/// What merges tokens at the end of a stage belongs to the next.
fn merging(stage: usize, layer: &str, part: &str) -> Translation {
    match stage.checked_add(1) {
        Some(next) => Translation::Variable(format!("layers.{next}.{layer}.{part}")),
        None => Translation::Unknown,
    }
}

fn transformers(layer: &str, part: &str) -> Translation {
    let bare = layer.strip_prefix("swin.").unwrap_or(layer);
    let ours = match bare {
        "embeddings" if part == "mask_token" => return Translation::Unused,
        "embeddings.patch_embeddings.projection" => "patch_embed.proj",
        "embeddings.norm" => "patch_embed.norm",
        "layernorm" => "norm",
        "classifier" => "head.fc",
        _ => return in_stage(bare, part).unwrap_or(Translation::Unknown),
    };
    Translation::Variable(format!("{ours}.{part}"))
}

fn in_stage(layer: &str, part: &str) -> Option<Translation> {
    let rest = layer.strip_prefix("encoder.layers.").or_else(|| layer.strip_prefix("layers."))?;
    let (stage, rest) = rest.split_once('.')?;
    let stage: usize = stage.parse().ok()?;
    if rest.starts_with("downsample.") {
        return Some(merging(stage, rest, part));
    }
    let (block, layer) = rest.strip_prefix("blocks.")?.split_once('.')?;
    let name = format!("layers.{stage}.blocks.{}", block.parse::<usize>().ok()?);
    if part == "relative_position_bias_table" {
        return Some(Translation::Variable(format!("{name}.attn.{part}")));
    }
    block_variable(&name, layer, part)
}
