//! The configuration of a Swin from the names and shapes of its checkpoint.

use super::inspect::{axes, classes, sizes};
use super::named::{named_alike, Named};
use super::{ImportOptions, KnownProperties};
use crate::models::{Activation, SwinConfig, SwinStage};
use crate::tensors::Weights;
use crate::{Error, Result};

/// ε of the LayerNorms in timm, transformers and the original.
const NORM_EPS: f64 = 1e-5;

/// Returns the configuration of the Swin that a checkpoint was saved from, by its names and shapes.
///
/// The tables of position biases show heads and windows. Assumed, because no tensor shows them:
///
/// | field | value |
/// |---|---|
/// | `image_size` | that of a `config.json` beside the file ([`inspect_file`](super::inspect_file)), or else such that the grid of the last stage is one window, as at 224² with windows of 7 × 7 and at 384² with 12 × 12 |
/// | `norm_eps` | 1e-5 |
/// | `classes`, in a checkpoint without a head | 1,000 |
/// | `drop_path` | 0 |
///
/// # Errors
/// [`Error::Import`] if the names are neither timm's, those of transformers nor the original's, or
/// one is missing; [`Error::Shape`] if the shapes of two tensors do not agree; [`Error::Invalid`] if
/// a table of position biases is not that of a square window, or the stages have windows of several
/// sizes (Swin-S3).
pub fn inspect_swin(weights: &Weights) -> Result<SwinConfig> {
    swin(
        &named_alike::<SwinConfig>(weights, &ImportOptions::default())?,
        &KnownProperties::default(),
    )
}

/// The configuration of a Swin from tensors under the network's names.
pub(super) fn swin(named: &Named, known: &KnownProperties) -> Result<SwinConfig> {
    named.expect_one_width()?;
    let other = known.activation.filter(|own| *own != Activation::Gelu).map(Activation::words);
    if let Some(other) = other.or(known.silu.then_some("SiLU")) {
        return Err(Error::invalid("activation of a Swin", "GELU", other));
    }
    let [_, in_channels, patch_size, width] =
        axes(named, "patch_embed.proj.weight", [None, None, None, None])?;
    if width != patch_size {
        return Err(Error::invalid("width of a patch", patch_size.to_string(), width));
    }
    let (mut stages, mut windows) = (Vec::new(), Vec::new());
    while named.has_any(&format!("layers.{}.", stages.len())) {
        let (stage, window) = stage(named, stages.len())?;
        stages.push(stage);
        windows.push(window);
    }
    let last = stages.len().saturating_sub(1);
    let embed_dim = stages.get(last).map_or(0, |stage| stage.embed_dim);
    let merged = 1_i64.checked_shl(last as u32).filter(|merged| *merged > 0);
    let grid = windows.last().copied().unwrap_or(0);
    let assumed = || merged.and_then(|own| own.checked_mul(grid)?.checked_mul(patch_size));
    let image_size = known.image_size.or_else(assumed);
    let config = SwinConfig {
        image_size: image_size.ok_or_else(|| Error::invalid("image_size", "64 bits", "more"))?,
        patch_size,
        in_channels,
        classes: classes(named, "head.fc.weight", embed_dim)?,
        window_size: windows.iter().copied().max().unwrap_or(0),
        stages,
        norm_eps: known.norm_eps.unwrap_or(NORM_EPS),
        drop_path: 0.0,
    };
    config.check()?;
    expect_windows(&config, &windows)?;
    Ok(config)
}

/// Refuses tables of position biases that are not those of windows of one size, or of whole grids.
fn expect_windows(config: &SwinConfig, windows: &[i64]) -> Result<()> {
    let mut stages = windows.iter().enumerate();
    match stages.find(|(stage, window)| config.windows(*stage, 0).side != **window) {
        None => Ok(()),
        Some((stage, window)) => {
            let side = config.windows(stage, 0).side;
            let expected = format!(
                "{side}, with windows of {} tokens in other stages and an image of {} pixels; a Swin \
                 whose stages have windows of their own (Swin-S3) is not supported",
                config.window_size, config.image_size
            );
            Err(Error::invalid(format!("window of stage {stage}"), expected, *window))
        }
    }
}

/// A stage, and the side of its windows.
fn stage(named: &Named, stage: usize) -> Result<(SwinStage, i64)> {
    let (mut blocks, mut embed_dim, mut side) = (Vec::new(), None, 0);
    loop {
        let block = format!("layers.{stage}.blocks.{}", blocks.len());
        if !blocks.is_empty() && !named.has_any(&format!("{block}.")) {
            break;
        }
        let rows = [None, embed_dim];
        let [qkv, width] = axes(named, &format!("{block}.attn.qkv.weight"), rows)?;
        embed_dim = Some(width);
        let [hidden_dim, _] = axes(named, &format!("{block}.mlp.fc1.weight"), [None, embed_dim])?;
        let table = format!("{block}.attn.relative_position_bias_table");
        let [positions, heads] = axes(named, &table, [None, None])?;
        side = window(&table, positions)?;
        blocks.push(sizes(&block, qkv, heads, hidden_dim)?);
    }
    Ok((SwinStage { embed_dim: embed_dim.unwrap_or(0), blocks }, side))
}

/// The side of a window whose table has (2·side − 1)² positions.
fn window(table: &str, positions: i64) -> Result<i64> {
    let root = positions.max(0).isqrt();
    if root * root != positions || root % 2 == 0 {
        let name = format!("rows of {table}");
        return Err(Error::invalid(name, "the square of an odd number", positions));
    }
    Ok((root + 1) / 2)
}
