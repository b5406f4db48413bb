//! Which images a step shows.

use super::options::{LoaderOptions, Order};
use crate::data::stream::{Purpose, Stream};
use std::ops::Range;

/// One showing of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Showing {
    pub index: usize,
    /// Of repeated augmentation, from 0.
    pub copy: usize,
}

/// Batches of an epoch.
pub(super) fn steps_per_epoch(options: &LoaderOptions, images: usize) -> u64 {
    match options.order {
        Order::Sequential => images.div_ceil(options.batch) as u64,
        Order::Shuffled { .. } => (images / options.batch) as u64,
    }
}

/// The order of an epoch.
#[derive(Debug)]
pub(super) struct EpochOrder {
    pub epoch: u64,
    /// A permutation of the indices; none where they stay as they are.
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
        Stream::of(options.seed, epoch, Purpose::Order).shuffle(&mut permutation);
        Self { epoch, permutation: Some(permutation), repeats, images }
    }

    /// What a batch of the epoch shows.
    pub fn batch(&self, number: u64, size: usize) -> impl ExactSizeIterator<Item = Showing> + '_ {
        let first = number as usize * size;
        let places: Range<usize> = first..(first + size).min(self.images);
        places.map(|place| {
            let (shuffled, copy) = (place / self.repeats, place % self.repeats);
            let index = match &self.permutation {
                Some(permutation) => permutation[shuffled] as usize,
                None => shuffled,
            };
            Showing { index, copy }
        })
    }
}
