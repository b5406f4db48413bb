//! The configuration of a ViT from the names and shapes of its checkpoint.

use super::adapt::grid_side;
use super::naming::{named, Named, Stored};
use super::{ImportOptions, Naming};
use crate::models::{BlockConfig, Pooling, VitConfig};
use crate::tensors::Weights;
use crate::{Error, Result};

/// Channels of a head in the published ViTs and DeiTs.
const HEAD_DIM: i64 = 64;
/// Initial LayerScale of DINOv2; a checkpoint holds the trained values alone.
const LAYER_SCALE: f64 = 1e-5;
/// Classes of ImageNet-1k, for a checkpoint without a head.
const CLASSES: i64 = 1000;

/// Returns the configuration of the ViT that a checkpoint was saved from, by its names and shapes.
///
/// Assumed, because no tensor shows them:
///
/// | field | value |
/// |---|---|
/// | heads of every block | `heads`, or else `embed_dim / 64` |
/// | `norm_eps` | 1e-6 with timm's names, 1e-12 with those of transformers: the defaults there |
/// | `classes`, in a checkpoint without a head | 1,000 |
/// | grid of patches, and so the image | square |
/// | `pooling` | the class token, not average pooling |
/// | activation | GELU, exact: not QuickGELU |
/// | `layer_scale`, where there is one | initially 1e-5; it matters in fresh networks only |
/// | `drop_path` | 0 |
///
/// # Errors
/// [`Error::Import`] if the names are neither timm's nor those of transformers, or one is missing;
/// [`Error::Shape`] if the shapes of two tensors do not agree; [`Error::Invalid`] if `heads` does
/// not divide the attention width, or is `None` while 64 does not divide `embed_dim`.
pub fn inspect(weights: &Weights, heads: Option<i64>) -> Result<VitConfig> {
    vit(&named::<VitConfig>(weights, &ImportOptions::default())?, heads)
}

/// The configuration of a ViT from tensors under the network's names.
pub(super) fn vit(named: &Named, heads: Option<i64>) -> Result<VitConfig> {
    let [_, _, embed_dim] = axes(named, "cls_token", [Some(1), Some(1), None])?;
    let patches = [Some(embed_dim), None, None, None];
    let [_, in_channels, patch_size, width] = axes(named, "patch_embed.proj.weight", patches)?;
    if width != patch_size {
        return Err(Error::invalid("width of a patch", patch_size.to_string(), width));
    }
    let [_, tokens, _] = axes(named, "pos_embed", [Some(1), None, Some(embed_dim)])?;
    let side = grid_side("pos_embed", tokens, 1 + i64::from(named.is_distilled()))?;
    let image_size = side.checked_mul(patch_size);
    let config = VitConfig {
        image_size: image_size.ok_or_else(|| Error::invalid("image_size", "64 bits", "more"))?,
        patch_size,
        in_channels,
        classes: classes(named, "head.weight", embed_dim)?,
        embed_dim,
        blocks: blocks(named, embed_dim, heads)?,
        distilled: named.is_distilled(),
        norm_eps: match named.naming {
            Naming::Transformers => 1e-12,
            Naming::Timm | Naming::OriginalSwin | Naming::Other => 1e-6,
        },
        drop_path: 0.0,
        layer_scale: named.tensors.contains_key("blocks.0.ls1.gamma").then_some(LAYER_SCALE),
        pooling: Pooling::ClassToken,
        ..VitConfig::uniform(embed_dim, 0, 1)
    };
    config.check()?;
    Ok(config)
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
        let [hidden_dim, _] = axes(named, &format!("blocks.{block}.mlp.fc1.weight"), rows)?;
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
