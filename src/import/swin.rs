//! Import into Swin Transformers.
//!
//! timm's names put the patch merging at the start of a stage, those of the original and of
//! transformers at the end of the stage before.

use super::family::{block_variable, of_blocks, Pretrained, Translation};
use super::recognise::is_vit;
use super::{Assumption, Naming};
use crate::models::{Activation, SwinConfig};
use crate::tensors::Weights;

impl Pretrained for SwinConfig {
    const HEADS: &'static [&'static str] = &["head.fc"];
    const PATCH_PROJECTION: Option<&'static str> = Some("patch_embed.proj.weight");

    fn naming(checkpoint: &Weights) -> Option<Naming> {
        Naming::recognise(checkpoint).filter(|_| !is_vit(checkpoint))
    }

    fn translate(naming: Naming, name: &str) -> Translation {
        let Some((layer, parameter)) = name.rsplit_once('.') else {
            return Translation::Unknown;
        };
        if matches!(parameter, "relative_position_index" | "attn_mask") {
            return Translation::Computed;
        }
        match naming {
            Naming::OriginalSwin => original(layer, parameter),
            Naming::Transformers => transformers(layer, parameter),
            _ => Translation::Variable(format!("{}.{parameter}", head(layer))),
        }
    }

    fn assumptions(&self, naming: Naming) -> Vec<Assumption> {
        let side = self.image_size;
        let blocks = self.stages.iter().flat_map(|stage| &stage.blocks);
        let mut assumed = of_blocks(blocks, Activation::Gelu);
        // The table of position biases has a column a head.
        assumed.retain(|assumption| assumption.property != "heads");
        assumed.extend([
            Assumption::new("norm_eps", format!("{:e}", self.norm_eps)),
            Assumption::new("pooling", "the mean of the tokens"),
            Assumption::new("norms", "before attention and MLP, and one at the end"),
            Assumption::new("shifted windows", "every second block, by half a window"),
            Assumption::new("patch merging", "columns before rows"),
            Assumption::new("image", format!("{side} x {side} pixels")),
        ]);
        if naming == Naming::Transformers && self.pads_shifted_windows() {
            let value = "after the shift, as in timm; transformers pads before it";
            assumed.push(Assumption::new("padding of shifted windows", value));
        }
        assumed
    }
}

impl SwinConfig {
    /// Whether a grid is padded that has shifted windows.
    fn pads_shifted_windows(&self) -> bool {
        self.stages.iter().enumerate().any(|(stage, own)| {
            let windows = self.windows(stage, 1);
            own.blocks.len() > 1 && windows.shift > 0 && windows.padding() > 0
        })
    }
}

fn original(layer: &str, parameter: &str) -> Translation {
    let stage = layer.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    match stage.and_then(|(stage, rest)| Some((stage.parse::<usize>().ok()?, rest))) {
        Some((stage, rest)) if rest.starts_with("downsample.") => merging(stage, rest, parameter),
        _ => Translation::Variable(format!("{}.{parameter}", head(layer))),
    }
}

/// The classifier's name: older versions of timm and the original call it `head`.
fn head(layer: &str) -> &str {
    if layer == "head" {
        "head.fc"
    } else {
        layer
    }
}

/// The patch merging at the end of a stage, which is the start of the next one here.
fn merging(stage: usize, layer: &str, parameter: &str) -> Translation {
    match stage.checked_add(1) {
        Some(next) => Translation::Variable(format!("layers.{next}.{layer}.{parameter}")),
        None => Translation::Unknown,
    }
}

fn transformers(layer: &str, parameter: &str) -> Translation {
    let bare = layer.strip_prefix("swin.").unwrap_or(layer);
    let own = match bare {
        "embeddings" if parameter == "mask_token" => return Translation::Unused,
        "embeddings.patch_embeddings.projection" => "patch_embed.proj",
        "embeddings.norm" => "patch_embed.norm",
        "layernorm" => "norm",
        "classifier" => "head.fc",
        _ => return in_stage(bare, parameter).unwrap_or(Translation::Unknown),
    };
    Translation::Variable(format!("{own}.{parameter}"))
}

fn in_stage(layer: &str, parameter: &str) -> Option<Translation> {
    let rest = layer.strip_prefix("encoder.layers.").or_else(|| layer.strip_prefix("layers."))?;
    let (stage, rest) = rest.split_once('.')?;
    let stage: usize = stage.parse().ok()?;
    if rest.starts_with("downsample.") {
        return Some(merging(stage, rest, parameter));
    }
    let (block, layer) = rest.strip_prefix("blocks.")?.split_once('.')?;
    let name = format!("layers.{stage}.blocks.{}", block.parse::<usize>().ok()?);
    if parameter == "relative_position_bias_table" {
        return Some(Translation::Variable(format!("{name}.attn.{parameter}")));
    }
    block_variable(&name, layer, parameter)
}
