//! Order of the images in an epoch.

use super::options::{LoaderOptions, Order};
use crate::data::random_stream::{RandomStream, StreamId};
use std::ops::Range;

/// One view of an image in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    pub index: usize,
    /// Number of the view under repeated augmentation, from 0.
    pub repeat: usize,
}

/// Number of batches in an epoch.
pub(super) fn steps_per_epoch(options: &LoaderOptions, images: usize) -> u64 {
    match options.order {
        Order::Sequential => images.div_ceil(options.batch) as u64,
        Order::Shuffled { .. } => (images / options.batch) as u64,
    }
}

/// Order of the images in one epoch.
#[derive(Debug)]
pub(super) struct EpochOrder {
    pub epoch: u64,
    /// Permutation of the indices; `None` for the sequential order.
    permutation: Option<Vec<u32>>,
    repeats: usize,
    images: usize,
}

impl EpochOrder {
    pub fn new(options: &LoaderOptions, images: usize, epoch: u64) -> Self {
        let Order::Shuffled { repeats } = options.order else {
            return Self { epoch, permutation: None, repeats: 1, images };
        };
        let mut permutation: Vec<u32> = (0..images as u32).collect();
        RandomStream::of(options.seed, epoch, StreamId::Order).shuffle(&mut permutation);
        Self { epoch, permutation: Some(permutation), repeats, images }
    }

    /// Views of a batch, numbered within the epoch.
    pub fn batch(&self, number: u64, size: usize) -> impl ExactSizeIterator<Item = View> + '_ {
        let first = number as usize * size;
        let places: Range<usize> = first..(first + size).min(self.images);
        places.map(|place| {
            let (shuffled, repeat) = (place / self.repeats, place % self.repeats);
            let index = match &self.permutation {
                Some(permutation) => permutation[shuffled] as usize,
                None => shuffled,
            };
            View { index, repeat }
        })
    }
}
