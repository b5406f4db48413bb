//! Sizes of a ViT or Swin configuration by the names of its dimensions.

use super::attention_pool::AttentionPool;
use super::block::BlockConfig;
use super::limits::check_apart;
use super::options::BlockStyle;
use super::Architecture;
use crate::error::expect_shape;
use crate::space::{Size, Sizes};
use crate::tensors::Weights;
use crate::{Error, Result};

/// A configuration of embeddings and transformer blocks.
pub(super) trait Blocks: Clone {
    /// Widths of all embeddings, with the names of their dimensions.
    fn embeddings_mut(&mut self) -> Vec<(String, &mut i64)>;

    /// What all blocks have in common.
    fn style(&self) -> BlockStyle;

    /// All blocks with their names.
    fn blocks_mut(&mut self) -> Vec<(String, &mut BlockConfig)>;

    /// The attention pooling, if there is one.
    fn pool_mut(&mut self) -> Option<&mut AttentionPool> {
        None
    }
}

/// Returns the sizes of all dimensions.
pub(super) fn sizes(config: &impl Blocks) -> Sizes {
    let (mut config, style) = (config.clone(), config.style());
    let mut sizes = Sizes::new();
    for (name, width) in config.embeddings_mut() {
        sizes.insert(name, Size::flat(*width));
    }
    for (name, block) in config.blocks_mut() {
        sizes.extend(block.sizes(&name, &style));
    }
    sizes.extend(config.pool_mut().into_iter().flat_map(|pool| pool.all_sizes()));
    sizes
}

/// Returns the configuration with other sizes for the dimensions in `wanted`.
///
/// # Errors
/// [`Error::Unknown`] for a dimension that the configuration does not have; [`Error::Invalid`] for heads of a dimension
/// without.
pub(super) fn resized<A: Blocks>(config: &A, wanted: &Sizes) -> Result<A> {
    let known = sizes(config);
    if let Some(name) = wanted.keys().find(|name| !known.contains_key(*name)) {
        return Err(Error::unknown("dimension", name, known.keys()));
    }
    let (mut config, style) = (config.clone(), config.style());
    for (name, width) in config.embeddings_mut() {
        *width = width_in(wanted, &name)?.unwrap_or(*width);
    }
    for (name, block) in config.blocks_mut() {
        block.resize(&name, &style, wanted)?;
    }
    if let Some(pool) = config.pool_mut() {
        pool.resize(wanted)?;
    }
    Ok(config)
}

/// Returns the width of a dimension without heads, if it is among the sizes; 0 if it is removed.
///
/// # Errors
/// [`Error::Invalid`] for another number of heads than 1: cost models count heads × channels.
pub(super) fn width_in(sizes: &Sizes, name: &str) -> Result<Option<i64>> {
    match sizes.get(name) {
        Some(&size) if size.heads != 1 && size != Size::REMOVED => {
            let expected = "1, as this dimension has none; give Size::flat of its width";
            Err(Error::invalid(format!("heads of {name}"), expected, size.heads))
        }
        size => Ok(size.map(|size| size.channels)),
    }
}

/// Folds the attention scale of every block into the weights of q.
///
/// # Errors
/// [`Error::Missing`] if a weight is missing.
pub(super) fn standardised<A: Blocks>(config: &A, weights: &mut Weights) -> Result<A> {
    let (mut config, style) = (config.clone(), config.style());
    for (name, block) in config.blocks_mut() {
        block.fold_attention_scale(&name, &style, weights)?;
    }
    if let Some(pool) = config.pool_mut() {
        pool.fold_attention_scale(weights)?;
    }
    Ok(config)
}

/// Returns the configuration whose attentions make queries and keys apart from values.
///
/// # Errors
/// [`Error::Invalid`] where another option forbids it.
pub(super) fn qk_v_apart<A: Blocks>(config: &A) -> Result<A> {
    let mut config = config.clone();
    check_apart("qk_v_apart", &config.style(), true)?;
    for (_, block) in config.blocks_mut() {
        *block = block.qk_v_apart();
    }
    Ok(config)
}

/// Turns the weights of a network into those of [`qk_v_apart`], after all have been checked.
///
/// # Errors
/// [`Error::Missing`] and [`Error::Shape`] for a weight that is missing, or of another shape.
pub(super) fn split_qkv<A: Blocks + Architecture>(config: &A, weights: &mut Weights) -> Result<()> {
    for (name, shape) in config.variables()? {
        let own = weights.get(&name).ok_or_else(|| Error::missing("weight", &name))?;
        expect_shape("queries and keys apart from values", &name, own, &shape)?;
    }
    let mut config = config.clone();
    config.blocks_mut().into_iter().try_for_each(|(name, own)| own.split_qkv(&name, weights))
}
