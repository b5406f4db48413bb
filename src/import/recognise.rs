//! Conventions of names that are recognised in order to refuse them.

use crate::tensors::Weights;

/// A convention, and whether a name is of it. Names are matched in the middle and at the end, so that
/// a prefix does not matter.
type Convention = (&'static str, fn(&str) -> bool);

const FOREIGN: [Convention; 9] = [
    ("an adapter of PEFT, to be merged in Python: model.merge_and_unload()", |name| {
        [".lora_", ".base_layer.", ".modules_to_save.", ".ia3_l"]
            .iter()
            .any(|part| name.contains(part))
    }),
    (
        "a network of the authors of Once for Both, whose scores no tensor shows to be in the weights already: call \
         fuse() of its layers in Python, and save the state dict without score and alpha",
        |name| {
            ["patch_embed.score", ".attn.score", ".mlp.score"].iter().any(|end| name.ends_with(end))
        },
    ),
    ("BEiT", |name| {
        let is_table = name.ends_with("relative_position_bias_table");
        name.ends_with(".lambda_1")
            || name.ends_with("relative_position_bias.relative_position_bias_table")
            || (is_table
                && name.contains("blocks.")
                && !["layers.", "stages."].iter().any(|part| name.contains(part)))
            || name.ends_with("rel_pos_bias.relative_position_bias_table")
    }),
    ("Swin Transformer V2, whose attention compares angles, with norms after it", |name| {
        name.ends_with("attn.logit_scale")
            || name.ends_with("attention.self.logit_scale")
            || name.contains("cpb_mlp.")
            || name.contains("continuous_position_bias_mlp.")
    }),
    ("Swin of torchvision", |name| {
        name.contains("features.") && name.ends_with(".attn.relative_position_bias_table")
    }),
    ("Swin of MMPretrain or MMDetection", |name| name.contains(".attn.w_msa.")),
    ("ViT of torchvision", |name| name.contains("encoder.layers.encoder_layer_0.")),
    ("vit-pytorch", |name| name.contains("to_patch_embedding.")),
    ("ViT of MMPretrain", |name| name.ends_with("patch_embed.projection.weight")),
];

/// Returns the convention of a checkpoint that no family of this crate has.
pub(super) fn foreign(checkpoint: &Weights) -> Option<&'static str> {
    let has = |end: &str| checkpoint.keys().any(|name| name.ends_with(end));
    // Its rotary positions have columns before rows.
    let is_timm = has("norm_pre.weight") && has("attn_pool.latent");
    if is_timm || (has("ln_pre.weight") && has("attn_pool.probe")) {
        return Some("the Perception Encoder");
    }
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
const PARTS: [Convention; 15] = [
    ("a norm before the blocks; set VitConfig::pre_norm (in a run network.pre_norm)", |name| {
        name.starts_with("norm_pre.")
    }),
    ("norms of queries and keys; set VitConfig::qk_norm (in a run network.qk_norm)", |name| {
        name.contains(".attn.q_norm.") || name.contains(".attn.k_norm.")
    }),
    ("a norm inside attention or MLP (scale_norm), which the network has not", |name| {
        [".attn.norm.", ".mlp.norm.", ".attn.inner_attn_ln.", ".mlp.ffn_ln."]
            .iter()
            .any(|part| name.contains(part))
    }),
    (
        "average pooling with a norm (fc_norm), which is none of features of tokens; set VitConfig::pooling to \
         MeanNorm (in a run network.pooling to mean_norm)",
        |name| name.starts_with("fc_norm."),
    ),
    ("register tokens; set VitConfig::registers (in a run network.registers)", |name| {
        matches!(name, "reg_token" | "register_tokens")
    }),
    ("LayerScale; set VitConfig::layer_scale (in a run network.layer_scale)", |name| {
        [".ls1.", ".ls2.", ".gamma_"].iter().any(|part| name.contains(part))
    }),
    (
        "queries and keys apart from values; load the artifact, whose config.json has their width \
         (BlockConfig::qk_dim)",
        |name| name.contains(".attn.qk.") || name.contains(".attn.v."),
    ),
    (
        "biases of queries, keys or values; set VitConfig::qkv_bias (in a run network.qkv_bias)",
        |name| {
            [".attn.q_bias", ".attn.v_bias", ".attn.qkv.bias"]
                .iter()
                .any(|part| name.ends_with(part))
        },
    ),
    ("pooling by attention; set VitConfig::pooling (in a run network.pooling)", |name| {
        name.starts_with("attn_pool.")
    }),
    (
        "pooling by attention over all tokens, as in OpenCLIP's CoCa, which the network has not",
        |name| name.starts_with("visual.attn_pool"),
    ),
    (
        "a classifier on the mean of the tokens before the final norm, which the network has not",
        |name| name.starts_with("classifier."),
    ),
    (
        "a gated MLP (SwiGLU); set VitConfig::mlp to SwiGlu (in a run network.mlp to swi_glu)",
        |name| {
            [".mlp.fc1_", ".mlp.w1", ".mlp.w2", ".mlp.w3"].iter().any(|part| name.contains(part))
        },
    ),
    ("the authors' DINOv3, to be converted by timm or transformers", |name| {
        name == "storage_tokens" || name.ends_with(".attn.qkv.bias_mask")
    }),
    ("a block that the network has not, or a part of one; change the configuration", |name| {
        name.starts_with("blocks.") || name.starts_with("layers.") || name.contains("encoder.layer")
    }),
    ("a part of CLIP's image tower that the network has not", |name| name.starts_with("visual.")),
];

/// Describes a tensor of a joint projection, where the network has queries and keys apart from values. `variables`:
/// those of the network.
pub(super) fn joint(name: &str, variables: &Weights) -> Option<&'static str> {
    let attention = name.strip_suffix(".qkv.weight").or_else(|| name.strip_suffix(".qkv.bias"))?;
    variables.contains_key(&format!("{attention}.qk.weight")).then_some(
        "queries, keys and values of one width; import it without BlockConfig::qk_dim, then take Subnet::qk_v_apart",
    )
}

/// Describes a tensor that changes what the network computes; `None` for a tensor that may be of a
/// pretraining's decoder or another part beside the classifier.
pub(super) fn part(name: &str) -> Option<&'static str> {
    PARTS.iter().find(|(_, is_of)| is_of(name)).map(|(words, _)| *words)
}

/// Describes a constant of rotary positions, which only a network with rotary positions computes itself; `None` for
/// another name.
pub(super) fn rotary(name: &str) -> Option<&'static str> {
    let is_constant = [".freqs_cos", ".freqs_sin", "rope_embeddings.inv_freq"];
    is_constant
        .iter()
        .any(|end| name.ends_with(end))
        .then_some("rotary positions; set VitConfig::rope (in a run network.rope)")
}
