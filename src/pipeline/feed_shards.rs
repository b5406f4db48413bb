//! Images of a run in tar shards.

use super::feed_checks::{expect_rgb, expect_whole};
use super::DataConfig;
use crate::data::shards::pattern_text;
use crate::data::{Dataset, Order, TarShards};
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// Images among which training images are shuffled, unless the configuration has another number.
const SHUFFLE_BUFFER: usize = 20_000;

/// Opens the shards to train on and those to evaluate on.
///
/// # Errors
/// [`Error::Invalid`] for options that tar shards do not have, or without a pattern to evaluate on;
/// those of [`TarShards::open`]; [`Error::Shard`] if evaluation has a class that training lacks.
pub(super) fn open_shards(train: &Path, config: &DataConfig) -> Result<[Arc<dyn Dataset>; 2]> {
    expect_whole(config, "none for tar shards; give the shards to hold out as data.shards.val")?;
    expect_rgb(config)?;
    let Some(val) = &config.shards.val else {
        let expected = "the pattern of the tar shards to evaluate on (--val)";
        return Err(Error::invalid("data.shards.val", expected, "none"));
    };
    let train = open(train, config)?;
    let val = open(val, config)?.with_classes(train.classes())?;
    Ok([Arc::new(train), Arc::new(val)])
}

fn open(pattern: &Path, config: &DataConfig) -> Result<TarShards> {
    let text = pattern_text(pattern)?;
    let shards = match &config.shards.index {
        Some(index) => TarShards::open_with_index(text, index)?,
        None => TarShards::open(text)?,
    };
    match config.max_pixels {
        Some(most) => shards.with_max_pixels(most),
        None => Ok(shards),
    }
}

/// Returns an order that reads the shards of a data set nearly one after the other, in place of a
/// shuffled one, if there are several shards or a buffer is given.
pub(super) fn by_shards(order: Order, images: &dyn Dataset, buffer: Option<usize>) -> Order {
    match order {
        Order::Shuffled { repeats } if buffer.is_some() || images.shards().len() > 1 => {
            Order::Shards { buffer: buffer.unwrap_or(SHUFFLE_BUFFER), repeats }
        }
        other => other,
    }
}
