//! Naming conventions of checkpoints, and how they are recognised.

use super::recognise::foreign;
use crate::tensors::Weights;
use serde::{Deserialize, Serialize};

/// Naming convention of a checkpoint's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Naming {
    /// timm and the original DeiT: `blocks.0.attn.qkv.weight`. The variables of this crate's
    /// networks have the same names.
    Timm,
    /// The original Swin, which merges patches at the end of a stage:
    /// `layers.0.downsample.norm.weight`.
    OriginalSwin,
    /// Hugging Face transformers: `vit.encoder.layer.0.attention.attention.query.weight`, or in the
    /// classes of its version 5, `vit.layers.0.attention.q_proj.weight`.
    Transformers,
    /// DINOv3 of transformers: `layer.0.attention.q_proj.weight`.
    Dinov3,
    /// The image towers of CLIP and SigLIP in transformers: `vision_model.encoder.layers.0.self_attn.q_proj.weight`.
    Clip,
    /// The image tower of OpenAI's CLIP and of OpenCLIP:
    /// `visual.transformer.resblocks.0.attn.in_proj_weight`.
    OpenClip,
    /// The convention of a family that is not this crate's ([`Pretrained::translate`](super::Pretrained::translate)).
    Other,
}

impl Naming {
    /// Returns the convention of a ViT or Swin checkpoint by the name of its patch projection, which
    /// has no prefix, except that of a class of transformers, such as `vit.`; `None` if it is none of
    /// those of this crate, or is of a network that shares it, such as BEiT.
    pub fn recognise(checkpoint: &Weights) -> Option<Self> {
        if foreign(checkpoint).is_some() {
            return None;
        }
        let has = |name: &str| checkpoint.contains_key(name);
        let transformers = |prefix: &&str| has(&format!("{prefix}{TRANSFORMERS_PROJECTION}"));
        if CLASS_PREFIXES.iter().any(transformers) {
            return Some(Self::Transformers);
        }
        if CLIP_PREFIXES.iter().any(|prefix| has(&format!("{prefix}{CLIP_PROJECTION}"))) {
            return Some(Self::Clip);
        }
        if DINOV3_PREFIXES.iter().any(|prefix| has(&format!("{prefix}{DINOV3_PROJECTION}"))) {
            return Some(Self::Dinov3);
        }
        if has(OPEN_CLIP_PROJECTION) {
            return Some(Self::OpenClip);
        }
        match (has(PROJECTION), has("layers.0.downsample.norm.weight")) {
            (true, true) => Some(Self::OriginalSwin),
            (true, false) => Some(Self::Timm),
            (false, _) => None,
        }
    }

    /// The prefixes before the patch projections of a checkpoint, none of which all names have.
    pub(super) fn prefixes(checkpoint: &Weights) -> Vec<String> {
        let found = checkpoint.keys().filter_map(|name| before_projection(name));
        found.filter(|before| !before.is_empty()).take(5).map(str::to_owned).collect()
    }
}

/// What is before the name of a patch projection, and before the prefix of a class of transformers.
fn before_projection(name: &str) -> Option<&str> {
    for (projection, classes) in [
        (TRANSFORMERS_PROJECTION, &CLASS_PREFIXES[..]),
        (CLIP_PROJECTION, &CLIP_PREFIXES[..]),
        (DINOV3_PROJECTION, &DINOV3_PREFIXES[..]),
        (PROJECTION, &[]),
        (OPEN_CLIP_PROJECTION, &[]),
    ] {
        let Some(before) = name.strip_suffix(projection) else { continue };
        let classes = classes.iter().filter(|prefix| !prefix.is_empty());
        return Some(
            classes.fold(before, |before, class| before.strip_suffix(class).unwrap_or(before)),
        );
    }
    None
}

/// Patch projection of timm and of the originals.
const PROJECTION: &str = "patch_embed.proj.weight";
/// Patch projection of transformers.
const TRANSFORMERS_PROJECTION: &str = "embeddings.patch_embeddings.projection.weight";
/// Prefixes in classes of transformers with a head; those without have none.
const CLASS_PREFIXES: [&str; 6] =
    ["", "vit.", "deit.", "swin.", "dinov2.", "dinov2_with_registers."];
/// Patch projection of transformers' CLIP.
const CLIP_PROJECTION: &str = "embeddings.patch_embedding.weight";
/// Prefixes of the image tower.
const CLIP_PREFIXES: [&str; 2] = ["", "vision_model."];
/// Patch projection of DINOv3.
const DINOV3_PROJECTION: &str = "embeddings.patch_embeddings.weight";
/// Prefixes in its classes.
pub(super) const DINOV3_PREFIXES: [&str; 3] = ["", "dinov3_vit.", "model."];
/// Patch projection of OpenAI's CLIP.
const OPEN_CLIP_PROJECTION: &str = "visual.conv1.weight";
