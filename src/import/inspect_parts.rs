//! Parts of a ViT's configuration from the names and shapes of its checkpoint.

use super::inspect::{axes, classes, sizes};
use super::named::Named;
use super::positions::grid_side;
use super::{KnownProperties, Naming};
use crate::models::{
    Activation, AttentionPool, Mlp, Norm, Pooling, PositionEmbedding, QkvBias, Rope,
};
use crate::{Error, Result};

/// Side of the grid that EVA-02 was trained with.
const REFERENCE: i64 = 16;

/// The default ε of the library that wrote the checkpoint.
pub(super) fn norm_eps(named: &Named, rope: Option<Rope>) -> f64 {
    match named.naming {
        Naming::Transformers if !named.has("blocks.0.ls1.gamma") => 1e-12,
        Naming::Clip if is_siglip(named) => 1e-6,
        Naming::Clip | Naming::OpenClip | Naming::Dinov3 => 1e-5,
        _ if matches!(rope, Some(Rope::Normalised { .. })) => 1e-5,
        _ if named.has("norm_pre.weight") => 1e-5,
        _ => 1e-6,
    }
}

/// The default activation of the library that wrote the checkpoint.
pub(super) fn activation(named: &Named) -> Activation {
    match named.naming {
        Naming::Clip if is_siglip(named) => Activation::GeluTanh,
        Naming::Clip | Naming::OpenClip => Activation::QuickGelu,
        _ => Activation::Gelu,
    }
}

/// SigLIP has the names of CLIP, and no norm before the blocks.
fn is_siglip(named: &Named) -> bool {
    named.naming == Naming::Clip && !named.has("norm_pre.weight")
}

pub(super) fn qkv_bias(named: &Named) -> QkvBias {
    match (named.has("blocks.0.attn.qkv.bias"), named.has("blocks.0.attn.q_bias")) {
        (true, _) => QkvBias::Full,
        (false, true) => QkvBias::QueryValue,
        (false, false) => QkvBias::None,
    }
}

/// Rotary positions, which no tensor shows: DINOv3 has a class token, registers and no table of
/// positions; EVA-02 has a table, SwiGLU, and biases of queries and values alone; timm's ViTs with
/// EVA-02's positions have those biases, registers, and neither class token nor table.
pub(super) fn rope(named: &Named, known: &KnownProperties) -> Result<Option<Rope>> {
    let timm = named.naming == Naming::Timm;
    let without_table = timm && !named.has("pos_embed") && named.has("reg_token");
    let dinov3 = without_table && named.has("cls_token");
    if dinov3 || named.naming == Naming::Dinov3 {
        return Ok(Some(Rope::Normalised { base: known.rope_base.unwrap_or(100.0) }));
    }
    let query_value = qkv_bias(named) == QkvBias::QueryValue;
    let eva02 = timm && named.has("pos_embed") && query_value && mlp(named)? == Mlp::SwiGlu;
    if eva02 || (without_table && query_value) {
        let base = known.rope_base.unwrap_or(10_000.0);
        return Ok(Some(Rope::Grid { base, reference: REFERENCE }));
    }
    Ok(None)
}

/// The tokens before the patches, with their numbers.
pub(super) fn prefix(named: &Named, embed_dim: i64) -> Result<Vec<(&'static str, i64)>> {
    let mut prefix = vec![];
    for token in ["cls_token", "dist_token", "reg_token"] {
        if named.has(token) {
            let [_, count, _] = axes(named, token, [Some(1), None, Some(embed_dim)])?;
            prefix.push((token, count));
        }
    }
    Ok(prefix)
}

/// The kind of position table, and the side of the grid of patches. A table in which only some of the
/// prefix tokens have rows becomes one of patches: the import adds those rows to the tokens.
pub(super) fn positions(
    named: &Named,
    prefix: &[(&str, i64)],
    embed_dim: i64,
) -> Result<(PositionEmbedding, i64)> {
    let [_, rows, _] = axes(named, "pos_embed", [Some(1), None, Some(embed_dim)])?;
    let all: i64 = prefix.iter().map(|(_, count)| count).sum();
    let registers = prefix.iter().find(|(token, _)| *token == "reg_token").map_or(0, |own| own.1);
    let side = |before| grid_side("pos_embed", rows, before);
    let for_all = side(all).map(|side| (PositionEmbedding::AllTokens, side));
    let mut others = [0, all - registers].into_iter().filter_map(|before| side(before).ok());
    let for_patches = others.next().map(|side| (PositionEmbedding::Patches, side));
    // Where both fit: hardly any network with registers has positions for them.
    match (for_all, for_patches, registers > 0) {
        (Ok(_), Some(found), true) | (Ok(found), ..) | (Err(_), Some(found), _) => Ok(found),
        (Err(error), None, _) => Err(error.into()),
    }
}

/// Pooling and number of classes.
pub(super) fn head(
    named: &Named,
    known: &KnownProperties,
    embed_dim: i64,
    heads: i64,
) -> Result<(Pooling, i64)> {
    let columns = named.get("head.weight").ok().and_then(|head| head.shape().get(1).copied());
    if columns.is_some_and(|columns| columns == 2 * embed_dim) {
        let [classes, _] = axes(named, "head.weight", [None, None])?;
        return Ok((Pooling::ClassAndMean, classes));
    }
    if named.has("attn_pool.latent") {
        let pool = attention_pool(named, heads)?;
        return Ok((Pooling::Attention(pool), classes(named, "head.weight", pool.embed_dim)?));
    }
    let pooling = match (named.has("fc_norm.weight"), named.has("cls_token")) {
        (true, _) if known.pooling == Some(Pooling::ClassToken) => {
            let expected = "avg, as the checkpoint has fc_norm.weight";
            return Err(Error::invalid("global_pool in config.json", expected, "token"));
        }
        (true, _) => Pooling::MeanNorm,
        (false, true) => known.pooling.unwrap_or_default(),
        (false, false) => Pooling::Mean,
    };
    // Without an `fc_norm`, a mean is taken after the final norm.
    let pooling = match pooling {
        Pooling::MeanNorm if !named.has("fc_norm.weight") => Pooling::Mean,
        other => other,
    };
    Ok((pooling, classes(named, "head.weight", embed_dim)?))
}

fn attention_pool(named: &Named, heads: i64) -> Result<AttentionPool> {
    let [_, _, latent_dim] = axes(named, "attn_pool.latent", [Some(1), Some(1), None])?;
    let [inner, _] = axes(named, "attn_pool.q.weight", [None, Some(latent_dim)])?;
    let [own, _] = axes(named, "attn_pool.proj.weight", [None, Some(inner)])?;
    let [_, hidden_dim] = axes(named, "attn_pool.mlp.fc2.weight", [Some(own), None])?;
    let sizes = sizes("attn_pool", inner.saturating_mul(3), heads, hidden_dim)?;
    Ok(AttentionPool { sizes, latent_dim, embed_dim: own })
}

/// The kind of a norm: RMSNorm has no bias. `None` if there is no such norm.
pub(super) fn norm_kind(named: &Named, layer: &str) -> Option<Norm> {
    let has = |parameter: &str| named.has(&format!("{layer}.{parameter}"));
    has("weight").then(|| if has("bias") { Norm::Layer } else { Norm::Rms })
}

/// A gated MLP has twice as many rows in fc1 as columns in fc2.
pub(super) fn mlp(named: &Named) -> Result<Mlp> {
    if !named.has_any("blocks.0.") {
        return Ok(Mlp::Plain);
    }
    let [rows, _] = axes(named, "blocks.0.mlp.fc1.weight", [None, None])?;
    let [_, hidden] = axes(named, "blocks.0.mlp.fc2.weight", [None, None])?;
    Ok(if rows == hidden.saturating_mul(2) { Mlp::SwiGlu } else { Mlp::Plain })
}
