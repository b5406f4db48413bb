//! Names of ViTs in the files of timm, transformers and the networks' authors.

use super::family::{block_variable, Translation, QKV};
use super::naming::DINOV3_PREFIXES;

/// The parts of a fused SwiGLU projection, in the order of its rows.
const GATED: &[&str] = &["gate", "value"];
/// Those of DINOv3, whose MLP without a gate has the second one alone.
const GATE_AND_UP: &[&str] = &["gate", UP];
pub(super) const UP: &str = "up";
/// Constants of rotary positions in the files of EVA-02's authors. Learned frequencies have other names.
const ROTARY: [&str; 2] = ["rope.freqs_cos", "rope.freqs_sin"];
/// Tensors of OpenAI's CLIP and of OpenCLIP outside of the image tower.
const CLIP_TEXT: [&str; 8] = [
    "positional_embedding",
    "text_projection",
    "logit_scale",
    "logit_bias",
    "attn_mask",
    "input_resolution",
    "context_length",
    "vocab_size",
];
/// Prefixes of the layers of their text towers.
const CLIP_TEXT_LAYERS: [&str; 6] =
    ["transformer.", "token_embedding.", "ln_final.", "text_projection.", "text.", "text_decoder."];
/// Prefixes in classes of transformers with a head; those without have none.
pub(super) const CLASSES: [&str; 5] = ["vit.", "deit.", "dinov2.", "dinov2_with_registers.", ""];

fn variable(layer: impl Into<String>, parameter: &str) -> Translation {
    Translation::Variable(format!("{}.{parameter}", layer.into()))
}

fn part(variable: String, part: &'static str, parts: &'static [&'static str]) -> Translation {
    Translation::Part { variable, part, parts }
}

/// `12.attn.qkv` → (`blocks.12`, `attn.qkv`).
fn in_block<'a>(name: &'a str, prefixes: &[&str]) -> Option<(String, &'a str)> {
    let rest = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let (block, layer) = rest.split_once('.')?;
    Some((format!("blocks.{}", block.parse::<usize>().ok()?), layer))
}

/// timm's names, and those of files that have the same but for a few: DeiT III, DINOv2, EVA, MAE.
pub(super) fn timm(name: &str) -> Translation {
    match name {
        // Of masked pretraining, as in DINOv2 and MAE.
        "mask_token" | "decoder_pos_embed" => return Translation::Unused,
        "register_tokens" => return Translation::Variable("reg_token".into()),
        _ => {}
    }
    let of_decoder = ["decoder_embed.", "decoder_blocks.", "decoder_norm.", "decoder_pred."];
    if of_decoder.iter().any(|prefix| name.starts_with(prefix)) {
        return Translation::Unused;
    }
    if ROTARY.iter().any(|constant| name.ends_with(constant)) {
        return Translation::Computed;
    }
    let Some((block, rest)) = in_block(name, &["blocks."]).map(in_chunk) else {
        return Translation::Variable(name.into());
    };
    match rest {
        "gamma_1" => return variable(block, "ls1.gamma"),
        "gamma_2" => return variable(block, "ls2.gamma"),
        _ => {}
    }
    let Some((layer, parameter)) = rest.rsplit_once('.') else {
        return variable(block, rest);
    };
    let qkv = |which| part(format!("{block}.attn.qkv.{parameter}"), which, QKV);
    let fc1 = |which| part(format!("{block}.mlp.fc1.{parameter}"), which, GATED);
    match layer {
        "attn.q_proj" => qkv("query"),
        "attn.k_proj" => qkv("key"),
        "attn.v_proj" => qkv("value"),
        "mlp.fc1_g" | "mlp.w1" => fc1("gate"),
        "mlp.fc1_x" | "mlp.w2" => fc1("value"),
        "mlp.w12" => variable(block + ".mlp.fc1", parameter),
        "mlp.w3" => variable(block + ".mlp.fc2", parameter),
        _ => variable(block, rest),
    }
}

/// In training checkpoints of DINOv2, blocks are in chunks: `blocks.CHUNK.BLOCK.norm1.weight`, each with its number among
/// all blocks.
fn in_chunk((chunk, rest): (String, &str)) -> (String, &str) {
    let inside =
        rest.split_once('.').and_then(|(at, rest)| Some((at.parse::<usize>().ok()?, rest)));
    inside.map_or((chunk, rest), |(block, rest)| (format!("blocks.{block}"), rest))
}

/// `ViTModel`, `DeiTModel`, `Dinov2Model`, `ViTMAEModel` of transformers, and their classes with heads.
pub(super) fn transformers(name: &str) -> Translation {
    // Of MAE's pretraining.
    if name.starts_with("decoder.decoder_") || name == "decoder.mask_token" {
        return Translation::Unused;
    }
    let bare = CLASSES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let token = match bare {
        "embeddings.cls_token" => "cls_token",
        "embeddings.distillation_token" => "dist_token",
        "embeddings.register_tokens" => "reg_token",
        "embeddings.position_embeddings" => "pos_embed",
        "embeddings.mask_token" | "pooler.dense.weight" | "pooler.dense.bias" => {
            return Translation::Unused;
        }
        _ => "",
    };
    if !token.is_empty() {
        return Translation::Variable(token.into());
    }
    let Some((layer, parameter)) = bare.rsplit_once('.') else {
        return Translation::Unknown;
    };
    if !matches!(parameter, "weight" | "bias" | "lambda1") {
        return Translation::Unknown;
    }
    let own = match layer {
        "embeddings.patch_embeddings.projection" => "patch_embed.proj",
        "layernorm" => "norm",
        "classifier" | "cls_classifier" => "head",
        "distillation_classifier" => "head_dist",
        _ => return in_layer(layer, parameter).unwrap_or(Translation::Unknown),
    };
    variable(own, parameter)
}

/// A layer of a block in transformers' files.
fn in_layer(layer: &str, parameter: &str) -> Option<Translation> {
    let (block, layer) = in_block(layer, &["encoder.layer.", "layers."])?;
    Some(match (layer, parameter) {
        ("layer_scale1", "lambda1") => variable(block, "ls1.gamma"),
        ("layer_scale2", "lambda1") => variable(block, "ls2.gamma"),
        (_, "lambda1") => return None,
        ("norm1" | "norm2", _) => variable(format!("{block}.{layer}"), parameter),
        ("mlp.weights_in", _) => variable(block + ".mlp.fc1", parameter),
        ("mlp.weights_out", _) => variable(block + ".mlp.fc2", parameter),
        _ => return block_variable(&block, layer, parameter),
    })
}

/// The image towers of CLIP and SigLIP in transformers' files. Other towers of the file are left out.
pub(super) fn clip(name: &str) -> Translation {
    if name.starts_with("text_model.") {
        return Translation::Unused;
    }
    let bare = name.strip_prefix("vision_model.").unwrap_or(name);
    match bare {
        "logit_scale" | "logit_bias" | "text_projection.weight" | "embeddings.position_ids" => {
            return Translation::Unused;
        }
        "embeddings.class_embedding" => return unsqueezed("cls_token", 2),
        "embeddings.position_embedding.weight" => return unsqueezed("pos_embed", 1),
        // SigLIP's pooling.
        "head.probe" => return Translation::Variable("attn_pool.latent".into()),
        "head.attention.in_proj_weight" => return query_and_rest("weight"),
        "head.attention.in_proj_bias" => return query_and_rest("bias"),
        _ => {}
    }
    let Some((layer, parameter)) = bare.rsplit_once('.') else {
        return Translation::Unknown;
    };
    let own = match layer {
        "embeddings.patch_embedding" => "patch_embed.proj",
        // The misspelling is transformers' own.
        "pre_layrnorm" => "norm_pre",
        "post_layernorm" => "norm",
        // A classifier is not: in transformers it reads a mean without this norm.
        "visual_projection" => "head",
        "head.attention.out_proj" => "attn_pool.proj",
        "head.layernorm" => "attn_pool.norm",
        "head.mlp.fc1" => "attn_pool.mlp.fc1",
        "head.mlp.fc2" => "attn_pool.mlp.fc2",
        _ => return in_clip_layer(layer, parameter).unwrap_or(Translation::Unknown),
    };
    variable(own, parameter)
}

/// Queries, and keys and values together.
fn query_and_rest(parameter: &str) -> Translation {
    let variable = |layer| format!("attn_pool.{layer}.{parameter}");
    Translation::Split(vec![(variable("q"), 1), (variable("kv"), 2)])
}

fn unsqueezed(variable: &str, axes: usize) -> Translation {
    Translation::Unsqueezed { variable: variable.into(), axes }
}

fn in_clip_layer(layer: &str, parameter: &str) -> Option<Translation> {
    let (block, layer) = in_block(layer, &["encoder.layers."])?;
    let qkv = |which| Some(part(format!("{block}.attn.qkv.{parameter}"), which, QKV));
    let own = match layer {
        "self_attn.q_proj" => return qkv("query"),
        "self_attn.k_proj" => return qkv("key"),
        "self_attn.v_proj" => return qkv("value"),
        "self_attn.out_proj" => "attn.proj",
        "layer_norm1" => "norm1",
        "layer_norm2" => "norm2",
        "mlp.fc1" | "mlp.fc2" => layer,
        _ => return None,
    };
    Some(variable(format!("{block}.{own}"), parameter))
}

/// The image tower of OpenAI's CLIP and OpenCLIP: `visual.transformer.resblocks.0.ln_1.weight`.
/// Outside of `visual.`, the text tower is unused, and other tensors, such as those of a classifier, are unknown.
pub(super) fn open_clip(name: &str) -> Translation {
    let Some(bare) = name.strip_prefix("visual.") else {
        let is_text = CLIP_TEXT.contains(&name)
            || CLIP_TEXT_LAYERS.iter().any(|prefix| name.starts_with(prefix));
        return if is_text { Translation::Unused } else { Translation::Unknown };
    };
    match bare {
        "class_embedding" => return unsqueezed("cls_token", 2),
        "positional_embedding" => return unsqueezed("pos_embed", 1),
        "proj" => return Translation::Transposed("head.weight".into()),
        _ => {}
    }
    let Some((layer, parameter)) = bare.rsplit_once('.') else {
        return Translation::Unknown;
    };
    match layer {
        "conv1" => return variable("patch_embed.proj", parameter),
        "ln_pre" => return variable("norm_pre", parameter),
        "ln_post" => return variable("norm", parameter),
        _ => {}
    }
    let Some((block, layer)) = in_block(bare, &["transformer.resblocks."]) else {
        return Translation::Unknown;
    };
    let own = match layer.rsplit_once('.') {
        Some(("attn", "in_proj_weight")) => return variable(block, "attn.qkv.weight"),
        Some(("attn", "in_proj_bias")) => return variable(block, "attn.qkv.bias"),
        Some(("attn.out_proj", _)) => "attn.proj",
        Some(("ln_1", _)) => "norm1",
        Some(("ln_2", _)) => "norm2",
        Some(("ls_1", _)) => "ls1",
        Some(("ls_2", _)) => "ls2",
        Some(("mlp.c_fc", _)) => "mlp.fc1",
        Some(("mlp.c_proj", _)) => "mlp.fc2",
        _ => return Translation::Unknown,
    };
    variable(format!("{block}.{own}"), parameter)
}

/// DINOv3 of transformers.
pub(super) fn dinov3(name: &str) -> Translation {
    let prefixes = DINOV3_PREFIXES.iter().filter(|prefix| !prefix.is_empty());
    let bare = prefixes.fold(name, |name, prefix| name.strip_prefix(prefix).unwrap_or(name));
    match bare {
        "embeddings.cls_token" => return Translation::Variable("cls_token".into()),
        "embeddings.register_tokens" => return Translation::Variable("reg_token".into()),
        "embeddings.mask_token" => return Translation::Unused,
        // Computed from the base of the periods.
        "rope_embeddings.inv_freq" => return Translation::Computed,
        _ => {}
    }
    let Some((layer, parameter)) = bare.rsplit_once('.') else {
        return Translation::Unknown;
    };
    match layer {
        "embeddings.patch_embeddings" => return variable("patch_embed.proj", parameter),
        "norm" => return variable("norm", parameter),
        "classifier" => return variable("head", parameter),
        _ => {}
    }
    let Some((block, layer)) = in_block(layer, &["layer."]) else {
        return Translation::Unknown;
    };
    let qkv = |which| part(format!("{block}.attn.qkv.{parameter}"), which, QKV);
    let fc1 = |which| part(format!("{block}.mlp.fc1.{parameter}"), which, GATE_AND_UP);
    match layer {
        "attention.q_proj" => qkv("query"),
        "attention.k_proj" => qkv("key"),
        "attention.v_proj" => qkv("value"),
        "attention.o_proj" => variable(block + ".attn.proj", parameter),
        "norm1" | "norm2" => variable(format!("{block}.{layer}"), parameter),
        "layer_scale1" if parameter == "lambda1" => variable(block, "ls1.gamma"),
        "layer_scale2" if parameter == "lambda1" => variable(block, "ls2.gamma"),
        "mlp.gate_proj" => fc1("gate"),
        "mlp.up_proj" => fc1(UP),
        "mlp.down_proj" => variable(block + ".mlp.fc2", parameter),
        _ => Translation::Unknown,
    }
}
