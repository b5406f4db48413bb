//! Options of a loader.

use crate::data::transform::{EvalTransform, TrainTransform, Transform};
use crate::data::{Dataset, Mixing, Normalisation};
use crate::distributed::Share;
use crate::range::{check_all, Range};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// `EpochOrder` stores indices as u32.
const IMAGES: Range<usize> = Range::closed(1, u32::MAX as usize);
const BATCH: Range<usize> = Range::closed(1, 1 << 20);
const WORKERS: Range<usize> = Range::closed(1, 1 << 10);
const PREFETCH: Range<usize> = Range::closed(0, 1 << 12);
const REPEATS: Range<usize> = Range::closed(1, 1 << 10);
/// Pixels of a process's share of a batch: 12 GB of three channels in f32.
const MOST_PIXELS: f64 = 1e9;

/// Corrupt images that a loader skips, where no other limit is set.
pub const DEFAULT_CORRUPT_IMAGES: usize = 10;

/// Order of the images in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By index. The last batch may be smaller.
    Sequential,
    /// A new random order each epoch. The last, incomplete batch is dropped.
    Shuffled {
        /// Repeated augmentation: number of consecutive views of each image, each augmented on its
        /// own (DeiT: 3). The number of images in an epoch stays the same, so an epoch covers
        /// 1/repeats of the data set.
        repeats: usize,
    },
    /// A new random order each epoch that reads the shards of the data set ([`Dataset::shards`])
    /// nearly one after the other: the shards are shuffled, then the images within a buffer, as WebDataset does. The last, incomplete batch is dropped.
    Shards {
        /// Number of images in the buffer. Indices are buffered, not images, so a large buffer takes
        /// no memory; it makes the reads of more shards alternate.
        buffer: usize,
        /// As of [`Shuffled`](Self::Shuffled).
        repeats: usize,
    },
}

impl Order {
    fn validate(self) -> Result<()> {
        match self {
            Self::Sequential => Ok(()),
            Self::Shuffled { repeats } => REPEATS.check("order.shuffled.repeats", repeats),
            Self::Shards { buffer, repeats } => check_all([
                ("order.shards.buffer", buffer, IMAGES),
                ("order.shards.repeats", repeats, REPEATS),
            ]),
        }
    }
}

/// Checks that the shards of a data set contain every index once, in ascending order.
fn check_shards(dataset: &dyn Dataset) -> Result<()> {
    let join = |end: usize, shard: std::ops::Range<usize>| {
        (shard.start == end && shard.end >= end).then_some(shard.end)
    };
    let shards = dataset.shards();
    if shards.iter().cloned().try_fold(0, join) == Some(dataset.len()) {
        return Ok(());
    }
    let expected = format!("ascending ranges that cover 0..{} without gaps", dataset.len());
    Err(Error::invalid("shards of the data set", expected, format!("{shards:?}")))
}

/// Reaction to an image that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCorrupt {
    /// The first corrupt image is an error.
    Fail,
    /// A corrupt image is replaced by the image of the next index.
    Skip {
        /// Largest number of different corrupt images; more are an error.
        limit: usize,
    },
}

/// Options of a [`Loader`](super::Loader).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoaderOptions {
    /// Batch size.
    pub batch: usize,
    /// Seed of order, augmentation and mixing.
    pub seed: u64,
    /// Number of worker threads. Batches do not depend on it.
    pub workers: usize,
    /// Number of prefetched batches over all workers. Each worker prepares one more, so
    /// prefetch + workers batches are in memory.
    pub prefetch: usize,
    /// Order of the images in an epoch.
    pub order: Order,
    /// Transform of a decoded image to a square of fixed size.
    pub transform: Transform,
    /// Normalisation of pixel values.
    pub normalisation: Normalisation,
    /// Mixup and cutmix; `None` disables them.
    pub mixing: Option<Mixing>,
    /// Reaction to a corrupt image.
    pub on_corrupt: OnCorrupt,
}

impl LoaderOptions {
    /// DeiT's training options: repeated augmentation, random resized crop, horizontal flip,
    /// RandAugment, random erasing, mixup and cutmix. Up to ten corrupt images are skipped.
    pub fn deit(size: usize, batch: usize) -> Self {
        Self {
            batch,
            order: Order::Shuffled { repeats: 3 },
            transform: Transform::Train(TrainTransform::deit(size)),
            mixing: Some(Mixing::deit()),
            on_corrupt: OnCorrupt::Skip { limit: DEFAULT_CORRUPT_IMAGES },
            ..Self::evaluation(size, batch)
        }
    }

    /// Evaluation options: every image once, in order, central crop. A corrupt image is an error.
    pub fn evaluation(size: usize, batch: usize) -> Self {
        Self {
            batch,
            seed: 0,
            workers: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            prefetch: 8,
            order: Order::Sequential,
            transform: Transform::Eval(EvalTransform::new(size)),
            normalisation: Normalisation::imagenet(),
            mixing: None,
            on_corrupt: OnCorrupt::Fail,
        }
    }

    /// Sets the seed.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the number of workers.
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Checks every option, by itself and against the data set.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first option out of range.
    pub fn validate(&self, dataset: &dyn Dataset) -> Result<()> {
        check_all([
            ("images of the data set", dataset.len(), IMAGES),
            ("batch", self.batch, BATCH),
            ("workers", self.workers, WORKERS),
            ("prefetch", self.prefetch, PREFETCH),
        ])?;
        self.order.validate()?;
        if self.order != Order::Sequential {
            Range::closed(1, dataset.len()).check("batch", self.batch)?;
        }
        if matches!(self.order, Order::Shards { .. }) {
            check_shards(dataset)?;
        }
        self.normalisation.validate(dataset.channels())?;
        self.transform.validate()?;
        self.mixing.map_or(Ok(()), |mixing| mixing.validate())
    }

    /// Number of batches that a worker keeps ready, beside the one it prepares: over all workers, `prefetch`.
    pub(super) fn ready(&self, worker: usize) -> usize {
        self.prefetch / self.workers + usize::from(worker < self.prefetch % self.workers)
    }

    /// Checks that the share of a batch that a process holds fits into memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the number of pixels.
    pub(super) fn check_pixels(&self, images: usize, share: Share) -> Result<()> {
        let batch = self.batch.min(images).div_ceil(share.world_size());
        let size = self.transform.size();
        let pixels = batch as f64 * (size as f64).powi(2);
        match pixels <= MOST_PIXELS {
            true => Ok(()),
            false => {
                let expected = format!("at most {MOST_PIXELS:e} in all");
                let actual = format!("{batch} images of {size} × {size}");
                Err(Error::invalid("pixels of a batch", expected, actual))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_keep_as_many_batches_ready_in_all_as_the_option_says() {
        for (prefetch, workers) in [(8, 6), (8, 12), (0, 3), (12, 4)] {
            let options =
                LoaderOptions { prefetch, ..LoaderOptions::evaluation(8, 2) }.workers(workers);
            let ready: Vec<usize> = (0..workers).map(|worker| options.ready(worker)).collect();
            assert_eq!(ready.iter().sum::<usize>(), prefetch, "{ready:?}");
            assert!(ready.is_sorted_by(|one, other| one >= other && one - other <= 1), "{ready:?}");
        }
    }

    #[test]
    fn pixels_of_a_share_are_limited_and_not_those_of_all_processes() {
        let options = LoaderOptions::evaluation(1000, 2000);
        let share =
            |world_size| Share::new(0, world_size).and_then(|own| options.check_pixels(3000, own));
        assert!(share(2).is_ok());
        let refused = share(1).map_err(|error| error.to_string());
        let expected =
            "pixels of a batch: got 2000 images of 1000 × 1000, expected at most 1e9 in all";
        assert_eq!(refused, Err(expected.into()));
    }
}
