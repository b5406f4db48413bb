//! Everything a loader can be told, as config.json holds it.

use crate::data::transform::{EvalTransform, TrainTransform, Transform};
use crate::data::{Dataset, Mixing, Normalisation};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Most workers, and most batches kept ready.
const MOST_BATCHES: usize = 1 << 12;

/// The order of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By index, to the last image: the last batch may be smaller.
    Sequential,
    /// Another order every epoch; images that do not fill a batch wait for another order.
    Shuffled {
        /// Times that an image appears, each with an augmentation of its own; DeiT: 3. An epoch
        /// has as many images as ever, so it shows this part of the data set only.
        repeats: usize,
    },
}

/// What becomes of images that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCorrupt {
    /// The first one is an error.
    Refuse,
    /// The image of the next index takes its place.
    Skip {
        /// More different ones than this are an error.
        limit: usize,
    },
}

/// Options of a loader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoaderOptions {
    /// Images of a batch.
    pub batch: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Worker threads; batches do not depend on it.
    pub workers: usize,
    /// Batches that are kept ready, over all workers, beside the one that each is making: memory is
    /// for prefetch + workers of them.
    pub prefetch: usize,
    /// Order of an epoch.
    pub order: Order,
    /// From the decoded image to the square.
    pub transform: Transform,
    /// From bytes to numbers.
    pub normalisation: Normalisation,
    /// Mixup and cutmix, or none.
    pub mixing: Option<Mixing>,
    /// What becomes of corrupt images.
    pub on_corrupt: OnCorrupt,
}

impl LoaderOptions {
    /// Training by DeiT's recipe: repeated augmentation, random crop, flip, RandAugment, erasing,
    /// mixup and cutmix. Ten corrupt images are skipped.
    pub fn deit(size: usize, batch: usize) -> Self {
        Self {
            batch,
            order: Order::Shuffled { repeats: 3 },
            transform: Transform::Train(TrainTransform::deit(size)),
            mixing: Some(Mixing::deit()),
            on_corrupt: OnCorrupt::Skip { limit: 10 },
            ..Self::evaluation(size, batch)
        }
    }

    /// Evaluation of every image once, on the central crop. Corrupt images are errors.
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
            on_corrupt: OnCorrupt::Refuse,
        }
    }

    /// The same with another seed.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same with another number of workers.
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Checks every option, on its own and against the data set.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the first that cannot be.
    pub fn validate(&self, dataset: &dyn Dataset) -> Result<()> {
        let least_one = |name: &str, value: usize| match value {
            0 => Err(Error::invalid(name, "at least 1", 0)),
            _ => Ok(()),
        };
        least_one("images of the data set", dataset.len())?;
        if u32::try_from(dataset.len()).is_err() {
            // The order of an epoch holds an index in 32 bits.
            return Err(Error::invalid("images of the data set", "less than 2³²", dataset.len()));
        }
        least_one("batch size", self.batch)?;
        least_one("workers", self.workers)?;
        for (name, value) in [("workers", self.workers), ("prefetch", self.prefetch)] {
            if value > MOST_BATCHES {
                return Err(Error::invalid(name, format!("at most {MOST_BATCHES}"), value));
            }
        }
        if let Order::Shuffled { repeats } = self.order {
            least_one("repeats", repeats)?;
            if self.batch > dataset.len() {
                let expected = format!("within 1..={}", dataset.len());
                return Err(Error::invalid("batch size", expected, self.batch));
            }
        }
        self.normalisation.validate(dataset.channels())?;
        self.transform.validate()?;
        self.mixing.map_or(Ok(()), |mixing| mixing.validate())
    }
}
