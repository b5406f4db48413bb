//! The configuration of a ViT from the names and shapes of its checkpoint.

use super::named::{named, Named, Stored};
use super::positions::grid_side;
use super::{ImportOptions, KnownProperties, Naming};
use crate::models::{
    Activation, AttentionPool, BlockConfig, Mlp, Norm, Pooling, PositionEmbedding, QkvBias, Rope,
    VitConfig,
};
use crate::tensors::Weights;
use crate::{Error, Result};

/// Channels of a head in the published ViTs and DeiTs.
const HEAD_DIM: i64 = 64;
/// Initial LayerScale of DINOv2; a checkpoint holds the trained values alone.
const LAYER_SCALE: f64 = 1e-5;
/// Side of the image of a network without a table of positions.
const IMAGE_SIZE: i64 = 224;
/// Side of the grid that EVA-02 was trained with.
const REFERENCE: i64 = 16;
/// Classes of ImageNet-1k, for a checkpoint without a head.
const CLASSES: i64 = 1000;

/// Returns the configuration of the ViT that a checkpoint was saved from, by its names and shapes.
///
/// Assumed, because no tensor shows them:
///
/// | field | value |
/// |---|---|
/// | heads of every block | `heads`, or else `embed_dim / 64` |
/// | `norm_eps` | the default of the library: 1e-6 with timm's names, 1e-5 there with a norm before the blocks, 1e-12 with those of transformers (1e-6 with LayerScale), 1e-5 with those of CLIP and DINOv3 |
/// | `classes`, in a checkpoint without a head | 1,000 |
/// | grid of patches, and so the image | square |
/// | `pooling` | by attention with an `attn_pool`, `mean_norm` with an `fc_norm`; else the class token, or the mean without one; `class_and_mean` if the head has two columns a channel |
/// | `activation` | GELU, exact; with the names of CLIP QuickGELU, and of SigLIP tanh GELU |
/// | `rope` | that of DINOv3, base 100, with its names, or with class token, registers and without positions; that of EVA-02, base 10,000 over 16 × 16 patches, with biases of queries and values alone, and SwiGLU or registers without positions |
/// | image of a network without a table of positions | 224 × 224 |
/// | `layer_scale`, where there is one | initially 1e-5; it matters in fresh networks only |
/// | `drop_path` | 0 |
///
/// [`inspect_known`] takes those that are known otherwise.
///
/// # Errors
/// [`Error::Import`] if the names are none of those of [`Naming`], or one is missing;
/// [`Error::Shape`] if the shapes of two tensors do not agree; [`Error::Invalid`] if `heads` does
/// not divide the attention width, or is `None` while 64 does not divide `embed_dim`.
pub fn inspect(weights: &Weights, heads: Option<i64>) -> Result<VitConfig> {
    inspect_known(weights, &KnownProperties::of_heads(heads))
}

/// Returns the configuration of the ViT that a checkpoint was saved from, by its names, its shapes,
/// and what else is known; the rest is assumed as [`inspect()`] does.
///
/// # Errors
/// Those of [`inspect()`].
pub fn inspect_known(weights: &Weights, known: &KnownProperties) -> Result<VitConfig> {
    vit(&named::<VitConfig>(weights, &ImportOptions::default())?, known)
}

/// The configuration of a ViT from tensors under the network's names.
pub(super) fn vit(named: &Named, known: &KnownProperties) -> Result<VitConfig> {
    let has = |variable: &str| named.tensors.contains_key(variable);
    let [embed_dim, in_channels, patch_size, width] =
        axes(named, "patch_embed.proj.weight", [None; 4])?;
    let patch_width = (width != patch_size).then_some(width);
    let prefix = prefix(named, embed_dim)?;
    let (rope, mlp) = (rope(named, known)?, mlp(named)?);
    // A gated MLP of DINOv3 in transformers has the activation of its configuration.
    if let (Naming::Dinov3, Mlp::SwiGlu, Some(other)) = (named.naming, mlp, known.activation) {
        return Err(Error::invalid("activation of a gated MLP", "SiLU", other.words()));
    }
    let (positions, image_size) = match named.tensors.contains_key("pos_embed") || rope.is_none() {
        true => {
            let (positions, side) = positions(named, &prefix, embed_dim)?;
            (positions, side.checked_mul(patch_size))
        }
        false => (PositionEmbedding::None, Some(known.image_size.unwrap_or(IMAGE_SIZE))),
    };
    let (pooling, classes) = head(named, known, embed_dim)?;
    let (pre_norm, layer_scale) = (has("norm_pre.weight"), has("blocks.0.ls1.gamma"));
    let siglip = named.naming == Naming::Clip && !pre_norm;
    let norm = norm_kind(named, "blocks.0.norm1");
    let config = VitConfig {
        image_size: image_size.ok_or_else(|| Error::invalid("image_size", "64 bits", "more"))?,
        patch_size,
        in_channels,
        classes,
        embed_dim,
        blocks: blocks(named, embed_dim, known.heads)?,
        distilled: named.is_distilled(),
        norm_eps: known.norm_eps.unwrap_or(match named.naming {
            Naming::Transformers if !layer_scale => 1e-12,
            Naming::Clip if siglip => 1e-6,
            Naming::Clip | Naming::OpenClip | Naming::Dinov3 => 1e-5,
            _ if matches!(rope, Some(Rope::Normalised { .. })) => 1e-5,
            _ if pre_norm => 1e-5,
            _ => 1e-6,
        }),
        drop_path: 0.0,
        layer_scale: layer_scale.then_some(LAYER_SCALE),
        pooling,
        class_token: has("cls_token"),
        registers: prefix.iter().find(|(token, _)| *token == "reg_token").map_or(0, |own| own.1),
        positions,
        patch_bias: has("patch_embed.proj.bias"),
        pre_norm,
        norm: norm.unwrap_or_default(),
        activation: known.activation.unwrap_or(match named.naming {
            Naming::Clip if siglip => Activation::GeluTanh,
            Naming::Clip | Naming::OpenClip => Activation::QuickGelu,
            _ => Activation::Gelu,
        }),
        mlp,
        qkv_bias: qkv_bias(named),
        qk_norm: norm_kind(named, "blocks.0.attn.q_norm"),
        head_bias: has("head.bias") || !has("head.weight"),
        rope,
        // As many patches along it as along the height.
        image_width: patch_width
            .and_then(|width| (image_size? / patch_size.max(1)).checked_mul(width)),
        patch_width,
    };
    config.check()?;
    Ok(config)
}

fn qkv_bias(named: &Named) -> QkvBias {
    let has = |variable: &str| named.tensors.contains_key(variable);
    match (has("blocks.0.attn.qkv.bias"), has("blocks.0.attn.q_bias")) {
        (true, _) => QkvBias::Full,
        (false, true) => QkvBias::QueryValue,
        (false, false) => QkvBias::None,
    }
}

/// Rotary positions, which no tensor shows: DINOv3 has a class token, registers and no table of
/// positions; EVA-02 has a table, SwiGLU, and biases of queries and values alone; timm's ViTs with
/// EVA-02's positions have those biases, registers, and neither class token nor table.
fn rope(named: &Named, known: &KnownProperties) -> Result<Option<Rope>> {
    let has = |variable: &str| named.tensors.contains_key(variable);
    let timm = named.naming == Naming::Timm;
    let without_table = timm && !has("pos_embed") && has("reg_token");
    let dinov3 = without_table && has("cls_token");
    if dinov3 || named.naming == Naming::Dinov3 {
        return Ok(Some(Rope::Normalised { base: known.rope_base.unwrap_or(100.0) }));
    }
    let query_value = qkv_bias(named) == QkvBias::QueryValue;
    let eva02 = timm && has("pos_embed") && query_value && mlp(named)? == Mlp::SwiGlu;
    if eva02 || (without_table && query_value) {
        let base = known.rope_base.unwrap_or(10_000.0);
        return Ok(Some(Rope::Grid { base, reference: REFERENCE }));
    }
    Ok(None)
}

/// The tokens before the patches, with their numbers.
fn prefix(named: &Named, embed_dim: i64) -> Result<Vec<(&'static str, i64)>> {
    let mut prefix = vec![];
    for token in ["cls_token", "dist_token", "reg_token"] {
        if named.tensors.contains_key(token) {
            let [_, count, _] = axes(named, token, [Some(1), None, Some(embed_dim)])?;
            prefix.push((token, count));
        }
    }
    Ok(prefix)
}

/// The kind of position table, and the side of the grid of patches. A table in which only some of the
/// prefix tokens have rows becomes one of patches: the import adds those rows to the tokens.
fn positions(
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
fn head(named: &Named, known: &KnownProperties, embed_dim: i64) -> Result<(Pooling, i64)> {
    let has = |variable: &str| named.tensors.contains_key(variable);
    let columns = named.get("head.weight").ok().and_then(|head| head.shape().get(1).copied());
    if columns.is_some_and(|columns| columns == 2 * embed_dim) {
        let [classes, _] = axes(named, "head.weight", [None, None])?;
        return Ok((Pooling::ClassAndMean, classes));
    }
    if has("attn_pool.latent") {
        let pool = attention_pool(named, known, embed_dim)?;
        return Ok((Pooling::Attention(pool), classes(named, "head.weight", pool.embed_dim)?));
    }
    let pooling = match (has("fc_norm.weight"), has("cls_token")) {
        (true, _) => Pooling::MeanNorm,
        (false, true) => known.pooling.unwrap_or_default(),
        (false, false) => Pooling::Mean,
    };
    // Without an `fc_norm`, a mean is taken after the final norm.
    let pooling = match pooling {
        Pooling::MeanNorm if !has("fc_norm.weight") => Pooling::Mean,
        other => other,
    };
    Ok((pooling, classes(named, "head.weight", embed_dim)?))
}

fn attention_pool(named: &Named, known: &KnownProperties, embed_dim: i64) -> Result<AttentionPool> {
    let [_, _, latent_dim] = axes(named, "attn_pool.latent", [Some(1), Some(1), None])?;
    let [inner, _] = axes(named, "attn_pool.q.weight", [None, Some(latent_dim)])?;
    let [own, _] = axes(named, "attn_pool.proj.weight", [None, Some(inner)])?;
    let [_, hidden_dim] = axes(named, "attn_pool.mlp.fc2.weight", [Some(own), None])?;
    let heads = known.heads.unwrap_or(embed_dim / HEAD_DIM);
    let sizes = sizes("attn_pool", inner.saturating_mul(3), heads, hidden_dim)?;
    Ok(AttentionPool { sizes, latent_dim, embed_dim: own })
}

/// The kind of a norm: RMSNorm has no bias. `None` if there is no such norm.
fn norm_kind(named: &Named, layer: &str) -> Option<Norm> {
    let has = |parameter| named.tensors.contains_key(&format!("{layer}.{parameter}"));
    has("weight").then(|| if has("bias") { Norm::Layer } else { Norm::Rms })
}

/// A gated MLP has twice as many rows in fc1 as columns in fc2.
fn mlp(named: &Named) -> Result<Mlp> {
    if !named.has_any("blocks.0.") {
        return Ok(Mlp::Plain);
    }
    let [rows, _] = axes(named, "blocks.0.mlp.fc1.weight", [None, None])?;
    let [_, hidden] = axes(named, "blocks.0.mlp.fc2.weight", [None, None])?;
    Ok(if rows == hidden.saturating_mul(2) { Mlp::SwiGlu } else { Mlp::Plain })
}

/// The rows of the head's weight; 1,000 without a head.
pub(super) fn classes(named: &Named, head: &str, embed_dim: i64) -> Result<i64> {
    if !named.tensors.contains_key(head) {
        return Ok(CLASSES);
    }
    let [classes, _] = axes(named, head, [None, Some(embed_dim)])?;
    Ok(classes)
}

fn blocks(named: &Named, embed_dim: i64, heads: Option<i64>) -> Result<Vec<BlockConfig>> {
    let heads = match heads {
        Some(heads) => heads,
        None if embed_dim % HEAD_DIM == 0 => embed_dim / HEAD_DIM,
        None => {
            let expected = format!(
                "a number by the option heads (--heads): embed_dim {embed_dim} is not a multiple of \
                 {HEAD_DIM}"
            );
            return Err(Error::invalid("heads", expected, "none"));
        }
    };
    let mut blocks = Vec::new();
    while named.has_any(&format!("blocks.{}.", blocks.len())) {
        let block = blocks.len();
        let rows = [None, Some(embed_dim)];
        let [qkv, _] = axes(named, &format!("blocks.{block}.attn.qkv.weight"), rows)?;
        let [_, hidden_dim] =
            axes(named, &format!("blocks.{block}.mlp.fc2.weight"), [Some(embed_dim), None])?;
        blocks.push(sizes(&format!("block {block}"), qkv, heads, hidden_dim)?);
    }
    Ok(blocks)
}

/// The sizes of a block with `rows` rows of queries, keys and values.
pub(super) fn sizes(block: &str, rows: i64, heads: i64, hidden_dim: i64) -> Result<BlockConfig> {
    if rows % 3 != 0 || heads < 1 || (rows / 3) % heads != 0 {
        let expected = format!("a divisor of the attention width {} of {block}", rows / 3);
        return Err(Error::invalid("heads", expected, heads));
    }
    Ok(BlockConfig::new(heads, rows / 3 / heads, hidden_dim))
}

/// Returns the shape of a tensor, and refuses it unless the axes in `known` have these lengths.
pub(super) fn axes<const N: usize>(
    named: &Named,
    variable: &str,
    known: [Option<i64>; N],
) -> Result<[i64; N]> {
    let stored: &Stored = named.get(variable)?;
    let actual = stored.shape();
    let fits = |shape: &[i64; N]| {
        shape.iter().zip(known).all(|(&axis, known)| known.is_none_or(|known| known == axis))
    };
    match <[i64; N]>::try_from(&actual[..]) {
        Ok(shape) if fits(&shape) => Ok(shape),
        _ => Err(Error::Shape {
            operation: "inspection of a checkpoint",
            name: stored.label(variable),
            // −1 stands for any length, as in PyTorch.
            expected: known.map(|axis| axis.unwrap_or(-1)).to_vec(),
            actual,
        }),
    }
}
