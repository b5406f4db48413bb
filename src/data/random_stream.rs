//! Random numbers of the data, as a function of what they are for.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution, Normal, StandardNormal};

/// What a stream of random numbers is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamId {
    /// Transforms of an image; repeated augmentation tells its copies apart.
    Sample { index: usize, repeat: usize },
    /// Order of the images in an epoch.
    Order,
    /// Mixing the images of a batch, by its place in the epoch.
    Mixing { batch: u64 },
}

/// Random numbers that depend on seed, epoch and purpose and on nothing else: neither on the
/// worker that draws them nor on what was drawn before.
#[derive(Debug, Clone)]
pub struct RandomStream(ChaCha8Rng);

impl RandomStream {
    /// The stream of a seed, for transforms outside of a loader.
    pub fn new(seed: u64) -> Self {
        Self::of(seed, 0, StreamId::Sample { index: 0, repeat: 0 })
    }

    /// ChaCha's key is the purpose itself, so no two purposes share a stream.
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

    /// Uniform between two numbers.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// An integer in 0..=last. 64 bits whatever the platform.
    pub(super) fn up_to(&mut self, last: usize) -> usize {
        self.0.random_range(0..=last as u64) as usize
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Either sign of a number, with equal probability.
    pub(super) fn either_sign(&mut self, number: f64) -> f64 {
        if self.chance(0.5) {
            -number
        } else {
            number
        }
    }

    /// From a normal distribution; the mean itself where the spread makes none.
    pub(super) fn normal(&mut self, mean: f64, std: f64) -> f64 {
        Normal::new(mean, std).map_or(mean, |normal| normal.sample(&mut self.0))
    }

    /// Numbers from the standard normal distribution.
    pub(super) fn standard_normals(&mut self, count: usize) -> Vec<f32> {
        StandardNormal.sample_iter(&mut self.0).take(count).collect()
    }

    /// From Beta(α, α); 1 where α makes none.
    pub(super) fn beta(&mut self, alpha: f64) -> f64 {
        Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(&mut self.0))
    }

    /// Puts a slice into random order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(&mut self.0);
    }
}
