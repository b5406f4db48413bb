//! Images of a run: in memory, or loaded from folders.

use super::feed_checks::expect_normalised;
use super::feed_shards::by_shards;
use super::{AugmentationPreset, DataConfig, FeedBatches};
use crate::data::transform::{EvalTransform, TrainTransform, Transform};
use crate::data::{
    Augmentation, Dataset, ImageSet, Loader, LoaderOptions, Normalisation, OnCorrupt, Order,
    ShuffledBatches,
};
use crate::distributed::{local_world_size, Collective, Share, SingleProcess};
use crate::range::Range;
use crate::{Error, Result};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Training images, and test images to evaluate on.
pub struct Feed {
    pub(super) source: Source,
    augmentation: AugmentationPreset,
    normalisation: Normalisation,
    workers: Option<usize>,
    shuffle_buffer: Option<usize>,
    crop_share: f64,
    corrupt_images: usize,
    pub(super) device: Device,
    pub(super) image_shape: [i64; 3],
    classes: i64,
    pub(super) group: Arc<dyn Collective>,
}

/// Where the images are.
pub(super) enum Source {
    Memory { train: ImageSet, test: ImageSet },
    Folder { train: Arc<dyn Dataset>, test: Arc<dyn Dataset> },
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Feed")
            .field("train_images", &self.train_images())
            .field("test_images", &self.test_images())
            .field("image_shape", &self.image_shape)
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

impl Feed {
    /// Returns the feed of two image sets in memory, normalised as the training set is.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the augmentation of DeiT, which needs data sets, and for a mean or standard deviation in
    /// `config` that is not that of the training set.
    pub fn in_memory(train: ImageSet, test: ImageSet, config: &DataConfig) -> Result<Self> {
        if config.augmentation == AugmentationPreset::Deit {
            let expected = "light or none for images in memory";
            return Err(Error::invalid("data.augmentation", expected, "deit"));
        }
        let normalisation = train.normalisation();
        expect_normalised(config, &normalisation)?;
        let Normalisation { mean, std } = normalisation;
        let config = &DataConfig { mean, std, ..config.clone() };
        let (image_shape, classes) = (train.image_shape(), train.classes());
        let device = train.device();
        Ok(Self::new(Source::Memory { train, test }, config, device, image_shape, classes))
    }

    /// Returns the feed of two data sets, loaded by worker threads and resized to `image_size`. RGB
    /// images are normalised with ImageNet's mean and standard deviation where the configuration has
    /// none.
    pub fn from_datasets(
        train: Arc<dyn Dataset>,
        test: Arc<dyn Dataset>,
        config: &DataConfig,
        image_size: i64,
        device: Device,
    ) -> Self {
        let image_shape = [train.channels() as i64, image_size, image_size];
        let classes = train.classes() as i64;
        let mut config = config.clone();
        if train.channels() == 3 && config.mean.is_empty() && config.std.is_empty() {
            Normalisation { mean: config.mean, std: config.std } = Normalisation::imagenet();
        }
        Self::new(Source::Folder { train, test }, &config, device, image_shape, classes)
    }

    fn new(
        source: Source,
        config: &DataConfig,
        device: Device,
        image_shape: [i64; 3],
        classes: i64,
    ) -> Self {
        let DataConfig { augmentation, workers, mean, std, shards, .. } = config.clone();
        let (crop_share, corrupt_images) = (config.crop_share, config.corrupt_images);
        let normalisation = Normalisation { mean, std };
        let shuffle_buffer = shards.shuffle_buffer;
        Self {
            source,
            augmentation,
            normalisation,
            workers,
            shuffle_buffer,
            crop_share,
            corrupt_images,
            device,
            image_shape,
            classes,
            group: Arc::new(SingleProcess),
        }
    }

    /// Sets the processes that train together: each gets its share of the training batches and of the
    /// images that are evaluated.
    pub fn distributed(mut self, group: Arc<dyn Collective>) -> Self {
        self.group = group;
        self
    }

    /// This process's share of the images.
    pub(super) fn share(&self) -> Share {
        Share::of(&*self.group)
    }

    /// Returns the name of a training image that cannot be decoded; `None` for one that can.
    ///
    /// # Errors
    /// Those of reading it.
    pub(super) fn corrupt(&self, index: usize) -> Result<Option<String>> {
        let Source::Folder { train, .. } = &self.source else { return Ok(None) };
        match train.load(index) {
            Err(Error::Image { name, .. }) => Ok(Some(name)),
            other => other.map(|_| None),
        }
    }

    /// Number of training images.
    pub fn train_images(&self) -> i64 {
        match &self.source {
            Source::Memory { train, .. } => train.len(),
            Source::Folder { train, .. } => train.len() as i64,
        }
    }

    /// Number of test images.
    pub fn test_images(&self) -> i64 {
        match &self.source {
            Source::Memory { test, .. } => test.len(),
            Source::Folder { test, .. } => test.len() as i64,
        }
    }

    /// Shape of an image, `[C, H, W]`.
    pub fn image_shape(&self) -> [i64; 3] {
        self.image_shape
    }

    /// Number of classes.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// Device of the images.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Normalisation of the pixels.
    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// Returns shuffled, augmented training batches of `size` images of all processes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a size below 1 or above the number of images, or options of the
    /// loader that are out of range.
    pub fn batches(&self, size: i64, seed: u64) -> Result<FeedBatches<'_>> {
        self.batches_with(self.augmentation, size, seed, self.share())
    }

    /// [`batches`](Self::batches) with another augmentation.
    pub(super) fn batches_with(
        &self,
        augmentation: AugmentationPreset,
        size: i64,
        seed: u64,
        share: Share,
    ) -> Result<FeedBatches<'_>> {
        let light = augmentation == AugmentationPreset::Light;
        let (train, side) = match &self.source {
            Source::Memory { train, .. } => {
                let augmentation = Augmentation { pad: if light { 2 } else { 0 }, flip: light };
                let batches = ShuffledBatches::new(train, size, seed, augmentation)?;
                return Ok(FeedBatches::Memory(batches.share(share)?));
            }
            Source::Folder { train, .. } => (train, self.image_shape[1] as usize),
        };
        let mut options = LoaderOptions::deit(side, size.max(0) as usize).seed(seed);
        if augmentation != AugmentationPreset::Deit {
            options.transform = match light {
                true => Transform::Train(TrainTransform::plain(side)),
                false => self.evaluation_options(options.batch).transform,
            };
            options.order = Order::Shuffled { repeats: 1 };
            options.mixing = None;
        }
        options.on_corrupt = OnCorrupt::Skip { limit: self.corrupt_images };
        options.order = by_shards(options.order, &**train, self.shuffle_buffer);
        Ok(FeedBatches::Folder(Box::new(self.loader(train, options)?.share(share)?)))
    }

    /// Options of a loader that evaluates, with the crop of the configuration.
    pub(super) fn evaluation_options(&self, batch: usize) -> LoaderOptions {
        let (size, share) = (self.image_shape[1] as usize, self.crop_share);
        let transform = Transform::Eval(EvalTransform { size, share });
        LoaderOptions { transform, ..LoaderOptions::evaluation(size, batch) }
    }

    pub(super) fn loader(
        &self,
        images: &Arc<dyn Dataset>,
        mut options: LoaderOptions,
    ) -> Result<Loader> {
        options.normalisation = self.normalisation.clone();
        // The processes on a machine share its cores.
        let share = options.workers / local_world_size()?;
        options.workers = self.workers.unwrap_or(share.max(1));
        Loader::new(Arc::clone(images), options, self.device)
    }

    /// Returns the first `count` test images, `[B, C, H, W]`, or all if there are fewer.
    ///
    /// # Errors
    /// Those of the data set.
    pub fn calibration_batch(&self, count: i64) -> Result<Tensor> {
        Range::closed(1, i64::MAX).check("calibration images", count)?;
        let count = count.min(self.test_images());
        match &self.source {
            Source::Memory { test, .. } => {
                Ok(test.select(&Tensor::f_arange(count, (Kind::Int64, self.device))?)?.0)
            }
            Source::Folder { test, .. } => {
                let options = self.evaluation_options(count as usize);
                Ok(self.loader(test, options)?.at(0)?.images)
            }
        }
    }
}
