//! Order of the images in an epoch.

use super::options::{LoaderOptions, Order};
use crate::data::random_stream::{RandomStream, StreamId};
use crate::data::Dataset;
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
        Order::Shuffled { .. } | Order::Shards { .. } => (images / options.batch) as u64,
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
    pub fn new(options: &LoaderOptions, dataset: &dyn Dataset, epoch: u64) -> Self {
        let images = dataset.len();
        let mut stream = RandomStream::of(options.seed, epoch, StreamId::Order);
        let (permutation, repeats) = match options.order {
            Order::Sequential => (None, 1),
            Order::Shuffled { repeats } => {
                let mut permutation: Vec<u32> = (0..images as u32).collect();
                stream.shuffle(&mut permutation);
                (Some(permutation), repeats)
            }
            Order::Shards { buffer, repeats } => {
                (Some(shuffle_shards(dataset.shards(), buffer, &mut stream)), repeats)
            }
        };
        Self { epoch, permutation, repeats, images }
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

/// Returns the indices of shuffled shards, shuffled within a buffer: the buffer is filled, each index
/// after that takes the place of a random one, which comes next, and the rest comes in random order.
fn shuffle_shards(
    mut shards: Vec<Range<usize>>,
    buffer: usize,
    stream: &mut RandomStream,
) -> Vec<u32> {
    stream.shuffle(&mut shards);
    let mut indices = shards.into_iter().flatten().map(|index| index as u32);
    let mut waiting: Vec<u32> = indices.by_ref().take(buffer).collect();
    let mut order = Vec::with_capacity(indices.size_hint().0 + waiting.len());
    for index in indices {
        let place = stream.up_to(waiting.len() - 1);
        order.push(std::mem::replace(&mut waiting[place], index));
    }
    stream.shuffle(&mut waiting);
    order.append(&mut waiting);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Shuffled shards of `count` images each.
    fn order(shards: usize, count: usize, buffer: usize, seed: u64) -> Vec<u32> {
        let shards = (0..shards).map(|shard| shard * count..(shard + 1) * count).collect();
        let mut stream = RandomStream::of(seed, 0, StreamId::Order);
        shuffle_shards(shards, buffer, &mut stream)
    }

    #[test]
    fn shuffled_shards_with_any_buffer_are_a_permutation() {
        for (shards, count, buffer) in [(1, 1, 1), (5, 7, 1), (5, 7, 6), (5, 7, 35), (5, 7, 1000)] {
            let mut sorted = order(shards, count, buffer, 3);
            sorted.sort_unstable();
            assert!(
                sorted.into_iter().eq(0..(shards * count) as u32),
                "{shards}, {count}, {buffer}"
            );
        }
        assert!(order(0, 0, 5, 3).is_empty());
    }

    #[test]
    fn shuffled_shards_with_buffer_1_stay_whole() {
        let order = order(20, 5, 1, 3);
        let firsts: Vec<u32> = order.chunks(5).map(|shard| shard[0]).collect();
        for (shard, first) in order.chunks(5).zip(&firsts) {
            assert!(shard.iter().copied().eq(*first..first + 5), "{shard:?}");
        }
        assert!(!firsts.is_sorted());
    }

    /// The table of docs/data.md: ImageNet, sorted by class, in 147 shards; batches of 256.
    #[test]
    fn shuffled_shards_mix_classes_and_shards_as_documented() {
        const IMAGES: usize = 147 * 8715;
        for (buffer, classes, shards) in
            [(1000, 6.0, 1.7), (20_000, 56.0, 12.7), (100_000, 140.0, 40.0), (IMAGES, 227.0, 122.0)]
        {
            let order = order(147, 8715, buffer, 3);
            // Neither the first nor the last batches, whose buffer is not full.
            let batches = order.chunks_exact(256).skip(1000).take(3000).step_by(30);
            let kinds = |images: &[u32], count: usize| {
                let kind = |&image: &u32| image as usize * count / IMAGES;
                images.iter().map(kind).collect::<BTreeSet<_>>().len() as f64 / 100.0
            };
            let found = batches.fold([0.0; 2], |[one, other], images| {
                [one + kinds(images, 1000), other + kinds(images, 147)]
            });
            for (found, expected) in found.into_iter().zip([classes, shards]) {
                assert!((found / expected - 1.0).abs() < 0.1, "{buffer}: {found}, {expected}");
            }
        }
    }
}
