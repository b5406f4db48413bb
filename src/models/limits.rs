//! Ranges of the sizes of a configuration.

use super::options::{BlockStyle, QkvBias};
use super::{BlockConfig, Rope, Shapes, Windows};
use crate::range::{check_all, Range, PART};
use crate::{Error, Result};
use std::fmt::Display;

// Far above those of any network, and low enough that no product of sizes overflows, whatever a
// damaged file says.
const WIDTH: Range<i64> = Range::closed(1, 1 << 20);
const IMAGE: Range<i64> = Range::closed(1, 1 << 20);
const GRID: Range<i64> = Range::closed(1, 1 << 14);
/// Blocks of a network, or of a stage.
pub(crate) const BLOCKS: Range<usize> = Range::closed(0, MOST_BLOCKS);
const MOST_BLOCKS: usize = 1 << 10;
/// ε below it vanishes beside the variance of features in f32.
const NORM_EPS: Range<f64> = Range::closed(1e-15, 1.0);
const REGISTERS: Range<i64> = Range::closed(0, 1 << 10);
const ROPE_BASE: Range<f64> = Range::closed(1.0, 1e12);
const LAYER_SCALE: Range<f64> = Range::closed(-1e6, 1e6);
/// Entries of a bias of window attention: 256 MB.
const LARGEST_BIAS: f64 = (1 << 26) as f64;
/// Numbers of the constants of all blocks of a network: 2 GB as i64.
const LARGEST_CONSTANTS: f64 = (1 << 28) as f64;
/// Numbers of all variables of a network: 40 GB in f32.
const LARGEST_NETWORK: f64 = 1e10;

pub(super) fn check_size(name: &str, value: i64) -> Result<()> {
    WIDTH.check(name, value)
}

pub(super) fn check_blocks(name: &str, blocks: &[BlockConfig]) -> Result<()> {
    BLOCKS.check(name, blocks.len())
}

/// Refuses blocks without any attention: no token would learn of another.
pub(super) fn check_attention(name: &str, blocks: &[BlockConfig]) -> Result<()> {
    if blocks.is_empty() || blocks.iter().any(BlockConfig::has_attention) {
        return Ok(());
    }
    let expected = "at least one with an attention; give one of them heads";
    Err(Error::invalid(name, expected, format!("{} without", blocks.len())))
}

/// Returns equal blocks. A number out of range stays out of range, and is not reserved.
pub(super) fn equal_blocks(block: BlockConfig, depth: usize) -> Vec<BlockConfig> {
    vec![block; depth.min(MOST_BLOCKS + 1)]
}

/// Returns the channels of a head; 0, which is refused, if the heads do not divide the embedding.
pub(super) fn head_dim(embed_dim: i64, heads: i64) -> i64 {
    match heads > 0 && embed_dim % heads == 0 {
        true => embed_dim / heads,
        false => 0,
    }
}

/// Refuses an image that cannot be divided into patches.
pub(super) fn check_input(image: i64, channels: i64, patch: i64) -> Result<()> {
    WIDTH.check("in_channels", channels)?;
    check_patches(["image_size", "patch_size"], image, patch)
}

/// Refuses a side of an image that cannot be divided into patches. `names` are those of image and patch.
pub(super) fn check_patches(names: [&str; 2], image: i64, patch: i64) -> Result<()> {
    let [of_image, of_patch] = names;
    check_all([(of_image, image, IMAGE), (of_patch, patch, IMAGE)])?;
    if image % patch != 0 {
        let expected = format!("a divisor of {of_image} {image}");
        return Err(Error::invalid(of_patch, expected, patch));
    }
    GRID.check(format!("{of_image} / {of_patch}"), image / patch)
}

/// Refuses windows whose constants would not fit into memory.
pub(super) fn check_windows(windows: Windows) -> Result<()> {
    let (grid, side) = ((windows.padded() as f64).powi(2), (windows.side as f64).powi(2));
    match grid.max(side) * side <= LARGEST_BIAS {
        true => Ok(()),
        false => {
            let expected = format!("fewer for a grid of {} tokens along a side", windows.grid);
            Err(Error::invalid("window_size", expected, windows.side))
        }
    }
}

/// Refuses windows that are no partition of a grid. `place` says where they are.
#[cfg(feature = "export")]
pub(super) fn check_partition(place: &str, windows: Windows) -> Result<()> {
    let Windows { grid, side, shift } = windows;
    GRID.check(format!("windows.grid of {place}"), grid)?;
    GRID.check(format!("windows.side of {place}"), side)?;
    Range::below(0, side).check(format!("windows.shift of {place}"), shift)
}

/// Refuses a network whose blocks have more numbers in constants than fit into memory. They are not among its
/// variables, so that a small file could ask for any number of them. `name` and `value` are of the field that
/// they grow with.
pub(super) fn check_constants(name: &str, value: i64, numbers: f64) -> Result<()> {
    if numbers <= LARGEST_CONSTANTS {
        return Ok(());
    }
    let expected = format!(
        "fewer tokens or blocks: {numbers:.1e} numbers in constants of the blocks are above {LARGEST_CONSTANTS:.1e}"
    );
    Err(Error::invalid(name, expected, value))
}

pub(super) fn check_rates(drop_path: f64, norm_eps: f64) -> Result<()> {
    check_all([("drop_path", drop_path, PART), ("norm_eps", norm_eps, NORM_EPS)])
}

pub(super) fn check_registers(registers: i64) -> Result<()> {
    REGISTERS.check("registers", registers)
}

/// Refuses a rotary position embedding that leaves a channel without its pair.
pub(super) fn check_rope(rope: Option<Rope>, blocks: &[BlockConfig]) -> Result<()> {
    let Some(rope) = rope else { return Ok(()) };
    ROPE_BASE.check("rope.base", rope.base())?;
    if let Rope::Grid { reference, .. } = rope {
        GRID.check("rope.reference", reference)?;
    }
    match blocks.iter().position(|block| block.head_dim % 2 != 0) {
        None => Ok(()),
        Some(at) => {
            let expected = "even, as rope rotates pairs of channels";
            Err(Error::invalid(format!("blocks.{at}.head_dim"), expected, blocks[at].head_dim))
        }
    }
}

/// Refuses queries and keys with a width of their own, by the value of this option, beside options that need all their
/// channels.
pub(super) fn check_apart(name: &str, style: &BlockStyle, value: impl Display) -> Result<()> {
    let others = [
        (style.qk_norm.is_some(), "qk_norm, which is over all channels of a head"),
        (style.rotary.is_some(), "rope, which turns pairs of channels by frequencies of their own"),
        (
            style.qkv_bias == QkvBias::QueryValue,
            "qkv_bias = query_value, which has no bias of keys",
        ),
    ];
    match others.iter().find(|(present, _)| *present) {
        None => Ok(()),
        Some((_, other)) => Err(Error::invalid(
            name,
            format!("not set beside {other}; leave one of the two out"),
            value,
        )),
    }
}

pub(super) fn check_layer_scale(initial: Option<f64>) -> Result<()> {
    initial.map_or(Ok(()), |initial| LAYER_SCALE.check("layer_scale", initial))
}

/// Refuses a network whose variables, each within its range, are too many together.
pub(super) fn check_variables(shapes: &Shapes) -> Result<()> {
    let numbers = |shape: &Vec<i64>| shape.iter().map(|&length| length as f64).product::<f64>();
    let all: f64 = shapes.values().map(numbers).sum();
    match all <= LARGEST_NETWORK {
        true => Ok(()),
        false => {
            let expected =
                format!("at most {LARGEST_NETWORK:e}; make embed_dim, depth or image smaller");
            Err(Error::invalid("parameters of the network", expected, format!("{all:.1e}")))
        }
    }
}
