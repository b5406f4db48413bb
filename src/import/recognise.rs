//! Conventions of names that are recognised in order to refuse them.

use crate::tensors::Weights;

/// A convention, and whether a name is of it. Names are matched in the middle and at the end, so that
/// a prefix does not matter.
type Convention = (&'static str, fn(&str) -> bool);

const FOREIGN: [Convention; 8] = [
    ("an adapter of PEFT, to be merged in Python: model.merge_and_unload()", |name| {
        [".lora_", ".base_layer.", ".modules_to_save.", ".ia3_l"]
            .iter()
            .any(|part| name.contains(part))
    }),
    ("DINOv2 or DINOv3 of transformers", |name| name.ends_with(".layer_scale1.lambda1")),
    ("BEiT", |name| {
        name.ends_with(".lambda_1")
            || name.ends_with(".attn.q_bias")
            || name.ends_with("relative_position_bias.relative_position_bias_table")
    }),
    ("Swin Transformer V2", |name| {
        name.ends_with("attn.logit_scale")
            || name.ends_with("attention.self.logit_scale")
            || name.contains("cpb_mlp.")
            || name.contains("continuous_position_bias_mlp.")
    }),
    ("CLIP or SigLIP", |name| {
        name.ends_with("visual.conv1.weight")
            || name.ends_with("vision_model.embeddings.patch_embedding.weight")
    }),
    ("ViT of torchvision", |name| name.contains("encoder.layers.encoder_layer_0.")),
    ("vit-pytorch", |name| name.contains("to_patch_embedding.")),
    ("ViT of MMPretrain", |name| name.ends_with("patch_embed.projection.weight")),
];

/// Returns the convention of a checkpoint that no family of this crate has.
pub(super) fn foreign(checkpoint: &Weights) -> Option<&'static str> {
    FOREIGN
        .iter()
        .find(|(_, is_of)| checkpoint.keys().any(|name| is_of(name)))
        .map(|(words, _)| *words)
}

/// Returns what a checkpoint is that `family` does not know: of a foreign convention, or of the
/// other family.
pub(super) fn other_family(checkpoint: &Weights, family: &str) -> Option<&'static str> {
    let other = || match family {
        "vit" if is_swin(checkpoint) => Some("a Swin Transformer, to be imported as such"),
        "swin" if is_vit(checkpoint) => Some("a ViT, to be imported as such"),
        _ => None,
    };
    foreign(checkpoint).or_else(other)
}

/// Whether a checkpoint has the windows of a Swin.
pub(super) fn is_swin(checkpoint: &Weights) -> bool {
    let is_table = |name: &String| {
        name.ends_with(".relative_position_bias_table") && name.contains("layers.0.blocks.")
    };
    checkpoint.keys().any(is_table)
}

/// Whether a checkpoint has a class token, which no Swin has.
pub(super) fn is_vit(checkpoint: &Weights) -> bool {
    checkpoint.keys().any(|name| name == "cls_token" || name.ends_with(".cls_token"))
}

/// A part of a network, and whether a name is of it.
const PARTS: [Convention; 9] = [
    ("a norm before the blocks (pre_norm), which the network has not", |name| {
        name.starts_with("norm_pre.")
    }),
    ("norms of queries and keys (qk_norm), which the network has not", |name| {
        name.contains(".attn.q_norm.") || name.contains(".attn.k_norm.")
    }),
    ("a norm inside attention or MLP (scale_norm), which the network has not", |name| {
        name.contains(".attn.norm.") || name.contains(".mlp.norm.")
    }),
    ("average pooling with a norm (fc_norm), which the network has not", |name| {
        name.starts_with("fc_norm.")
    }),
    ("register tokens, which the network has not", |name| {
        matches!(name, "reg_token" | "register_tokens")
    }),
    ("LayerScale; set layer_scale in the configuration", |name| {
        [".ls1.", ".ls2.", ".gamma_"].iter().any(|part| name.contains(part))
    }),
    ("pooling by attention, which the network has not", |name| name.starts_with("attn_pool.")),
    ("a gated MLP (SwiGLU), which the network has not", |name| {
        [".mlp.fc1_", ".mlp.w1", ".mlp.w2", ".mlp.w3"].iter().any(|part| name.contains(part))
    }),
    ("a block that the network has not, or a part of one; change the configuration", |name| {
        name.starts_with("blocks.") || name.starts_with("layers.") || name.contains("encoder.layer")
    }),
];

/// Describes a tensor that changes what the network computes; `None` for a tensor that may be of a
/// pretraining's decoder or another part beside the classifier.
pub(super) fn part(name: &str) -> Option<&'static str> {
    PARTS.iter().find(|(_, is_of)| is_of(name)).map(|(words, _)| *words)
}
