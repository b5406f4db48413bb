//! The configuration of a ViT from the names and shapes of its checkpoint.

use super::heads;
use super::inspect_parts::{
    activation, head, mlp, norm_eps, norm_kind, positions, prefix, qkv_bias, rope,
};
use super::named::{named_alike, Named, Stored};
use super::{ImportOptions, KnownProperties, Naming};
use crate::models::{BlockConfig, Mlp, PositionEmbedding, VitConfig};
use crate::tensors::Weights;
use crate::{Error, Result};

/// Initial LayerScale of DINOv2; a checkpoint holds the trained values alone.
const LAYER_SCALE: f64 = 1e-5;
/// Side of the image of a network without a table of positions.
const IMAGE_SIZE: i64 = 224;
/// Activations of an MLP without a gate.
const PLAIN: &str = "GELU, tanh GELU, QuickGELU or ReLU";
/// Classes of ImageNet-1k, for a checkpoint without a head.
const CLASSES: i64 = 1000;

/// Returns the configuration of the ViT that a checkpoint was saved from, by its names and shapes.
///
/// Assumed, because no tensor shows them:
///
/// | field | value |
/// |---|---|
/// | heads of every block | `heads`; else `embed_dim / 64` for widths of 128 to 1,024, and of wider networks those of the published ones with this width and number of blocks, rotary positions and LayerScale (So400m, H, H+, g, UNI2-h, G, 7B) |
/// | `norm_eps` | the default of the library: 1e-6 with timm's names, 1e-5 there with a norm before the blocks or the rotary positions of DINOv3; 1e-12 with those of transformers (1e-6 with LayerScale); 1e-5 with those of CLIP, OpenCLIP and DINOv3; 1e-6 with those of SigLIP |
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
/// not divide the attention width, or is `None` and the number of heads is not known for these sizes.
pub fn inspect(weights: &Weights, heads: Option<i64>) -> Result<VitConfig> {
    inspect_known(weights, &KnownProperties::of_heads(heads))
}

/// Returns the configuration of the ViT that a checkpoint was saved from, by its names, its shapes,
/// and what else is known; the rest is assumed as [`inspect()`] does.
///
/// # Errors
/// Those of [`inspect()`].
pub fn inspect_known(weights: &Weights, known: &KnownProperties) -> Result<VitConfig> {
    vit(&named_alike::<VitConfig>(weights, &ImportOptions::default())?, known)
}

/// The configuration of a ViT from tensors under the network's names.
pub(super) fn vit(named: &Named, known: &KnownProperties) -> Result<VitConfig> {
    named.expect_one_width()?;
    let [embed_dim, in_channels, patch_size, width] =
        axes(named, "patch_embed.proj.weight", [None; 4])?;
    let patch_width = (width != patch_size).then_some(width);
    let (prefix, rope) = (prefix(named, embed_dim)?, rope(named, known)?);
    let (positions, image_size) = match named.has("pos_embed") || rope.is_none() {
        true => {
            let (positions, side) = positions(named, &prefix, embed_dim)?;
            (positions, side.checked_mul(patch_size))
        }
        false => (PositionEmbedding::None, Some(known.image_size.unwrap_or(IMAGE_SIZE))),
    };
    let heads = known.heads.map_or_else(|| heads::assumed(named, embed_dim, rope), Ok)?;
    let (pooling, classes) = head(named, known, embed_dim, heads)?;
    let config = VitConfig {
        image_size: image_size.ok_or_else(|| Error::invalid("image_size", "64 bits", "more"))?,
        patch_size,
        in_channels,
        classes,
        blocks: blocks(named, embed_dim, heads)?,
        pooling,
        registers: prefix.iter().find(|(token, _)| *token == "reg_token").map_or(0, |own| own.1),
        positions,
        rope,
        // As many patches along it as along the height.
        image_width: patch_width
            .and_then(|width| (image_size? / patch_size.max(1)).checked_mul(width)),
        patch_width,
        ..options(named, known, VitConfig::uniform(embed_dim, 0, 1))?
    };
    config.check()?;
    Ok(config)
}

/// Those options of a ViT that depend on no size.
fn options(named: &Named, known: &KnownProperties, plain: VitConfig) -> Result<VitConfig> {
    let mlp = mlp(named)?;
    // A gated MLP of DINOv3 in transformers has the activation of its configuration.
    if let (Naming::Dinov3, Mlp::SwiGlu, Some(other)) = (named.naming, mlp, known.activation) {
        return Err(Error::invalid("activation of a gated MLP", "SiLU", other.words()));
    }
    if known.silu && mlp == Mlp::Plain {
        return Err(Error::invalid("activation of an MLP without a gate", PLAIN, "SiLU"));
    }
    let rope = rope(named, known)?;
    Ok(VitConfig {
        distilled: named.is_distilled(),
        norm_eps: known.norm_eps.unwrap_or_else(|| norm_eps(named, rope)),
        layer_scale: named.has("blocks.0.ls1.gamma").then_some(LAYER_SCALE),
        class_token: named.has("cls_token"),
        patch_bias: named.has("patch_embed.proj.bias"),
        pre_norm: named.has("norm_pre.weight"),
        norm: norm_kind(named, "blocks.0.norm1").unwrap_or_default(),
        activation: known.activation.unwrap_or_else(|| activation(named)),
        mlp,
        qkv_bias: qkv_bias(named),
        qk_norm: norm_kind(named, "blocks.0.attn.q_norm"),
        head_bias: named.has("head.bias") || !named.has("head.weight"),
        ..plain
    })
}

/// The rows of the head's weight; 1,000 without a head.
pub(super) fn classes(named: &Named, head: &str, embed_dim: i64) -> Result<i64> {
    if !named.tensors.contains_key(head) {
        return Ok(CLASSES);
    }
    let [classes, _] = axes(named, head, [None, Some(embed_dim)])?;
    Ok(classes)
}

fn blocks(named: &Named, embed_dim: i64, heads: i64) -> Result<Vec<BlockConfig>> {
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
