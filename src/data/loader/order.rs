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
                (Some(shuffle_runs(dataset.runs(), buffer, &mut stream)), repeats)
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

/// Returns the indices of shuffled runs, shuffled within a buffer: the buffer is filled, each index
/// after that takes the place of a random one, which comes next, and the rest comes in random order.
fn shuffle_runs(mut runs: Vec<Range<usize>>, buffer: usize, stream: &mut RandomStream) -> Vec<u32> {
    stream.shuffle(&mut runs);
    let mut indices = runs.into_iter().flatten().map(|index| index as u32);
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

    /// Shuffled runs of `count` images each.
    fn order(runs: usize, count: usize, buffer: usize, seed: u64) -> Vec<u32> {
        let runs = (0..runs).map(|run| run * count..(run + 1) * count).collect();
        let mut stream = RandomStream::of(seed, 0, StreamId::Order);
        shuffle_runs(runs, buffer, &mut stream)
    }

    #[test]
    fn shuffled_runs_with_any_buffer_are_a_permutation() {
        for (runs, count, buffer) in [(1, 1, 1), (5, 7, 1), (5, 7, 6), (5, 7, 35), (5, 7, 1000)] {
            let mut sorted = order(runs, count, buffer, 3);
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..(runs * count) as u32), "{runs}, {count}, {buffer}");
        }
        assert!(order(0, 0, 5, 3).is_empty());
    }

    #[test]
    fn shuffled_runs_with_buffer_1_stay_whole() {
        let order = order(20, 5, 1, 3);
        let firsts: Vec<u32> = order.chunks(5).map(|run| run[0]).collect();
        for (run, first) in order.chunks(5).zip(&firsts) {
            assert!(run.iter().copied().eq(*first..first + 5), "{run:?}");
        }
        assert!(!firsts.is_sorted());
    }

    /// As docs/data.md says. The number of images that come while one waits is geometric with the mean
    /// `buffer`, and each image enters `buffer` places ahead of its own.
    #[test]
    fn shuffled_runs_move_images_by_the_buffer_on_average() {
        let buffer = 500;
        let middle = &order(1, 100_000, buffer, 3)[10_000..90_000];
        let shift = |(place, &index): (usize, &u32)| (place as f64 + 10_000.0) - f64::from(index);
        let mean = middle.iter().enumerate().map(shift).map(f64::abs).sum::<f64>() / 80_000.0;
        let expected = 2.0 * buffer as f64 / std::f64::consts::E;
        assert!((mean / expected - 1.0).abs() < 0.05, "{mean}, expected {expected}");
        let whole = order(10, 1000, 10_000, 3);
        let mean = whole.iter().map(|&index| f64::from(index)).take(1000).sum::<f64>() / 1000.0;
        assert!((mean / 5000.0 - 1.0).abs() < 0.1, "{mean}");
    }
}
