//! Training batches of a feed.

use crate::batch::{Batch, BatchSource};
use crate::data::{Loader, ShuffledBatches};
use crate::Result;
use std::collections::BTreeMap;

/// Training batches of a [`Feed`](super::Feed).
#[derive(Debug)]
pub enum FeedBatches<'a> {
    /// Batches of images in memory.
    Memory(ShuffledBatches<'a>),
    /// Batches of a data set, from worker threads.
    Folder(Box<Loader>),
}

impl FeedBatches<'_> {
    /// Number of batches in an epoch.
    pub fn per_epoch(&self) -> u64 {
        match self {
            Self::Memory(batches) => batches.steps_per_epoch(),
            Self::Folder(loader) => loader.steps_per_epoch(),
        }
    }

    /// Names of the corrupt images that were skipped so far.
    pub fn corrupt_images(&self) -> Vec<String> {
        match self {
            Self::Memory(_) => Vec::new(),
            Self::Folder(loader) => loader.corrupt_images().values().cloned().collect(),
        }
    }

    /// Names of the corrupt images, by index.
    pub(super) fn corrupt(&self) -> BTreeMap<usize, String> {
        match self {
            Self::Memory(_) => BTreeMap::new(),
            Self::Folder(loader) => loader.corrupt_images().clone(),
        }
    }

    /// Adds corrupt images that were skipped elsewhere.
    pub(super) fn add_corrupt(&mut self, images: BTreeMap<usize, String>) -> Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Folder(loader) => loader.add_corrupt_images(images),
        }
    }
}

impl BatchSource for FeedBatches<'_> {
    fn batch(&mut self, number: u64) -> Result<Batch> {
        match self {
            Self::Memory(batches) => batches.at(number),
            Self::Folder(loader) => loader.at(number),
        }
    }
}
