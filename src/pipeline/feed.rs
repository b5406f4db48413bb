//! Images of a run: in memory, or loaded from folders.

use super::feed_checks::{
    expect_folder_options, expect_idx, expect_rgb, expect_same_classes, expect_whole,
    other_channels,
};
use super::feed_shards::{by_shards, open_shards};
use super::{AugmentationPreset, DataConfig, FeedBatches};
use crate::data::idx::{IdxImages, Split};
use crate::data::shards::is_shard_pattern;
use crate::data::transform::{TrainTransform, Transform};
use crate::data::{
    Augmentation, Dataset, ImageFolder, ImageSet, Loader, LoaderOptions, Normalisation, Order,
    ShuffledBatches,
};
use crate::distributed::{local_world_size, Collective, Share, SingleProcess};
use crate::range::Range;
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Training images, and test images to evaluate on.
pub struct Feed {
    pub(super) source: Source,
    augmentation: AugmentationPreset,
    normalisation: Normalisation,
    workers: Option<usize>,
    shuffle_buffer: Option<usize>,
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
    /// Opens a folder: `train/` and `val/` with a folder per class, or IDX files under MNIST's
    /// names; or tar shards, if `folder` ends in `.tar`. `image_size` is the side of the network's
    /// input; images of folders and shards are resized to it.
    ///
    /// # Errors
    /// [`Error::File`] for a folder without images in either layout, or whose `train/` and `val/`
    /// have other classes; [`Error::Invalid`] for options that do not fit; those of the data set.
    pub fn open(
        folder: &Path,
        config: &DataConfig,
        image_size: i64,
        device: Device,
    ) -> Result<Self> {
        config.check()?;
        if is_shard_pattern(folder) {
            let [train, test] = open_shards(folder, config)?;
            return Ok(Self::from_datasets(train, test, config, image_size, device));
        }
        expect_folder_options(config)?;
        let feed = match folder.join("train").is_dir() {
            true => Self::open_classes(folder, config, image_size, device)?,
            false => {
                expect_idx(folder, config)?;
                Self::open_idx(folder, config, device)?
            }
        };
        let [_, height, width] = feed.image_shape;
        if [height, width] != [image_size, image_size] {
            let name = format!("images of {}", folder.display());
            let expected = format!("{image_size} × {image_size} pixels, network.image_size");
            return Err(Error::invalid(name, expected, format!("{height} × {width}")));
        }
        Ok(feed)
    }

    fn open_idx(folder: &Path, config: &DataConfig, device: Device) -> Result<Self> {
        if let Some(pixels) = config.max_pixels {
            return Err(Error::invalid("data.max_pixels", "none for IDX files", pixels));
        }
        let train = IdxImages::open_split(folder, Split::Train)?;
        let test = IdxImages::open_split(folder, Split::Test)?;
        let classes = train.classes();
        let train = ImageSet::from_idx(train, classes, device)?;
        let (mean, std) = match (&config.mean[..], &config.std[..]) {
            ([], []) => train.pixel_statistics()?,
            (&[mean], &[std]) => (mean, std),
            (mean, std) => return Err(other_channels(mean, std, 1)),
        };
        let all = train.normalised(mean, std)?;
        let test = ImageSet::from_idx(test, classes, device)?.normalised(mean, std)?;
        // Both are in range, see DataConfig::check.
        let used = config.images.unwrap_or(all.len());
        let trained = used - config.validation;
        if used > all.len() || trained < 1 {
            let expected = format!("within the {} training images", all.len());
            let actual = format!("{used}, of which {} held out", config.validation);
            return Err(Error::invalid("data.images and data.validation", expected, actual));
        }
        let part = |from, to| all.subset(&Tensor::f_arange_start(from, to, (Kind::Int64, device))?);
        let test = if config.validation > 0 { part(trained, used)? } else { test };
        let train = if trained < all.len() { part(0, trained)? } else { all };
        let config = DataConfig { mean: vec![mean], std: vec![std], ..config.clone() };
        Self::in_memory(train, test, &config)
    }

    fn open_classes(
        folder: &Path,
        config: &DataConfig,
        image_size: i64,
        device: Device,
    ) -> Result<Self> {
        expect_whole(config, "none for folders of classes; move a part of train/ to val/ instead")?;
        expect_rgb(config)?;
        let open = |name| {
            let images = ImageFolder::open(folder.join(name))?;
            match config.max_pixels {
                Some(most) => images.with_max_pixels(most),
                None => Ok(images),
            }
        };
        let (train, test) = (open("train")?, open("val")?);
        expect_same_classes(folder, &train, &test)?;
        Ok(Self::from_datasets(Arc::new(train), Arc::new(test), config, image_size, device))
    }

    /// Returns the feed of two normalised image sets in memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the augmentation of DeiT, which needs data sets.
    pub fn in_memory(train: ImageSet, test: ImageSet, config: &DataConfig) -> Result<Self> {
        if config.augmentation == AugmentationPreset::Deit {
            let expected = "light or none for images in memory";
            return Err(Error::invalid("data.augmentation", expected, "deit"));
        }
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
        let normalisation = Normalisation { mean, std };
        let shuffle_buffer = shards.shuffle_buffer;
        Self {
            source,
            augmentation,
            normalisation,
            workers,
            shuffle_buffer,
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
                false => LoaderOptions::evaluation(side, options.batch).transform,
            };
            options.order = Order::Shuffled { repeats: 1 };
            options.mixing = None;
        }
        options.order = by_shards(options.order, &**train, self.shuffle_buffer);
        Ok(FeedBatches::Folder(Box::new(self.loader(train, options)?.share(share)?)))
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
                let side = self.image_shape[1] as usize;
                let options = LoaderOptions::evaluation(side, count as usize);
                Ok(self.loader(test, options)?.at(0)?.images)
            }
        }
    }
}
