//! Random numbers of the data pipeline, addressed by seed, epoch and use.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution, Normal, StandardNormal};

/// Use of a random stream. Each use has a stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamId {
    /// Augmentation of an image. `repeat` counts its views under repeated augmentation.
    Sample { index: usize, repeat: usize },
    /// Order of the images in an epoch.
    Order,
    /// Mixup or cutmix of a batch, numbered within its epoch.
    Mixing { batch: u64 },
}

/// Random number generator for augmentation.
///
/// Its numbers depend on seed, epoch and use (order of the epoch, augmentation of one image, mixing
/// of one batch) alone, not on the worker thread nor on numbers drawn for other uses.
#[derive(Debug, Clone)]
pub struct RandomStream(ChaCha8Rng);

impl RandomStream {
    /// Returns the stream of a seed, for transforms outside a loader.
    pub fn new(seed: u64) -> Self {
        Self::of(seed, 0, StreamId::Sample { index: 0, repeat: 0 })
    }

    /// Returns the stream of one use. The ChaCha8 key is (seed, epoch, id), so no two uses share a
    /// stream.
    pub(super) fn of(seed: u64, epoch: u64, id: StreamId) -> Self {
        let [index, kind] = match id {
            StreamId::Sample { index, repeat } => [index as u64, repeat as u64],
            StreamId::Order => [0, 1 << 32],
            StreamId::Mixing { batch } => [batch, 2 << 32],
        };
        let mut key = [0; 32];
        for (bytes, number) in key.chunks_exact_mut(8).zip([seed, epoch, index, kind]) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Uniform in [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform integer in 0..=last, drawn as 64 bits on every platform.
    pub(super) fn up_to(&mut self, last: usize) -> usize {
        self.0.random_range(0..=last as u64) as usize
    }

    /// True with the given probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// `number` or `-number`, each with probability ½.
    pub(super) fn either_sign(&mut self, number: f64) -> f64 {
        if self.chance(0.5) {
            -number
        } else {
            number
        }
    }

    /// From the normal distribution; `mean` if `std` is not finite.
    pub(super) fn normal(&mut self, mean: f64, std: f64) -> f64 {
        Normal::new(mean, std).map_or(mean, |normal| normal.sample(&mut self.0))
    }

    /// `count` numbers from the standard normal distribution.
    pub(super) fn standard_normals(&mut self, count: usize) -> Vec<f32> {
        StandardNormal.sample_iter(&mut self.0).take(count).collect()
    }

    /// From Beta(α, α); 1 if α is not positive.
    pub(super) fn beta(&mut self, alpha: f64) -> f64 {
        Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(&mut self.0))
    }

    /// Shuffles a slice.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(&mut self.0);
    }
}
