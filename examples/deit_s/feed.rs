//! Images of a run: in memory where they are small, else streamed from a folder.

use crate::config::{AugmentationName, DataConfig};
use crate::AnyError;
use once_for_both::data::idx::{IdxImages, Split};
use once_for_both::data::transform::{TrainTransform, Transform};
use once_for_both::data::{
    Augmentation, Batch, Dataset, ImageFolder, ImageSet, Loader, LoaderOptions, Normalisation,
    Order, ShuffledBatches,
};
use once_for_both::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Images that are evaluated at once.
const EVALUATED: usize = 200;

/// Training images, and those that judge.
pub struct Feed {
    source: Source,
    config: DataConfig,
    pub device: Device,
    /// Channels, height and width of an image.
    pub shape: [i64; 3],
    pub classes: i64,
}

enum Source {
    Memory { train: ImageSet, test: ImageSet },
    Folder { train: Arc<dyn Dataset>, test: Arc<dyn Dataset> },
}

/// Batches of a stage, as a function of the step.
pub enum Stream<'a> {
    Memory(ShuffledBatches<'a>),
    Folder(Box<Loader>),
}

impl Feed {
    /// Opens the data of a run: `train/` and `val/` with classes as folders, or IDX files.
    pub fn open(config: &DataConfig, side: i64, device: Device) -> Result<Self, AnyError> {
        let folder = match &config.folder {
            Some(folder) => folder.clone(),
            None if config.built_in => {
                PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/data")
            }
            None => return Err("no images: give --data FOLDER (data.folder)".into()),
        };
        let feed = match folder.join("train").is_dir() {
            true => Self::of_folder(&folder, config, side, device)?,
            false if config.mean.len() == 1 => Self::of_idx(&folder, config, device)?,
            false => {
                let (folder, channels) = (folder.display(), config.mean.len());
                return Err(format!(
                    "{folder} holds no train/ with a folder for each class (and data.mean is of \
                     {channels} channels, so it holds no IDX files)"
                )
                .into());
            }
        };
        if feed.shape[1..] != [side, side] {
            let [_, height, width] = feed.shape;
            return Err(format!(
                "images of {} are {height} × {width} pixels, the network's {side} × {side}: \
                 see network.image_size, or --preset",
                folder.display()
            )
            .into());
        }
        Ok(feed)
    }

    fn of_idx(folder: &Path, config: &DataConfig, device: Device) -> Result<Self, AnyError> {
        if config.augmentation == AugmentationName::Deit {
            return Err("data.augmentation: deit is for folders of images; use light".into());
        }
        let (train, test) = (
            IdxImages::open_split(folder, Split::Train)?,
            IdxImages::open_split(folder, Split::Test)?,
        );
        let classes = train.classes();
        let ([mean], [std]) = (&config.mean[..], &config.std[..]) else {
            return Err("data.mean, data.std: IDX images have one channel".into());
        };
        let read = |images| ImageSet::from_idx(images, classes, device)?.normalised(*mean, *std);
        let (all, test) = (read(train)?, read(test)?);
        let used = config.images.unwrap_or(all.len());
        let trained = used - config.validation;
        if used > all.len() || trained < 1 || config.validation < 0 {
            return Err(format!(
                "data.images {used} less data.validation {}: there are {} training images",
                config.validation,
                all.len()
            )
            .into());
        }
        let part = |from, to| all.subset(&Tensor::f_arange_start(from, to, (Kind::Int64, device))?);
        let test = if config.validation > 0 { part(trained, used)? } else { test };
        let train = if trained < all.len() { part(0, trained)? } else { all };
        let (shape, classes) = (train.image_shape(), train.classes());
        let source = Source::Memory { train, test };
        Ok(Self { source, config: config.clone(), device, shape, classes })
    }

    fn of_folder(
        folder: &Path,
        config: &DataConfig,
        side: i64,
        device: Device,
    ) -> Result<Self, AnyError> {
        if config.images.is_some() || config.validation != 0 {
            return Err("data.images, data.validation: only for IDX files; \
                        hold a part of train/ out as val/ instead"
                .into());
        }
        let train = ImageFolder::open(folder.join("train"))?;
        let test = ImageFolder::open(folder.join("val"))?;
        expect_same_classes(folder, &train, &test)?;
        let (classes, shape) = (train.classes() as i64, [train.channels() as i64, side, side]);
        let source = Source::Folder { train: Arc::new(train), test: Arc::new(test) };
        Ok(Self { source, config: config.clone(), device, shape, classes })
    }

    pub fn train_images(&self) -> i64 {
        match &self.source {
            Source::Memory { train, .. } => train.len(),
            Source::Folder { train, .. } => train.len() as i64,
        }
    }

    pub fn test_images(&self) -> i64 {
        match &self.source {
            Source::Memory { test, .. } => test.len(),
            Source::Folder { test, .. } => test.len() as i64,
        }
    }

    /// Shuffled, augmented batches.
    pub fn stream(&self, batch: i64, seed: u64) -> Result<Stream<'_>> {
        let large = self.config.augmentation == AugmentationName::Deit;
        let light = self.config.augmentation == AugmentationName::Light;
        match &self.source {
            Source::Memory { train, .. } => {
                let pad = if light { 2 } else { 0 };
                Ok(Stream::Memory(ShuffledBatches::new(
                    train,
                    batch,
                    seed,
                    Augmentation { pad, flip: light },
                )?))
            }
            Source::Folder { train, .. } => {
                let size = self.shape[1] as usize;
                let mut options = LoaderOptions::deit(size, batch as usize).seed(seed);
                if !large {
                    options.transform = match light {
                        true => Transform::Train(TrainTransform::plain(size)),
                        false => LoaderOptions::evaluation(size, batch as usize).transform,
                    };
                    options.order = Order::Shuffled { repeats: 1 };
                    options.mixing = None;
                }
                Ok(Stream::Folder(Box::new(self.loader(train, options)?)))
            }
        }
    }

    fn loader(&self, images: &Arc<dyn Dataset>, mut options: LoaderOptions) -> Result<Loader> {
        let DataConfig { mean, std, .. } = self.config.clone();
        options.normalisation = Normalisation { mean, std };
        options.workers = self.config.workers.unwrap_or(options.workers);
        Loader::new(images.clone(), options, self.device)
    }

    /// Share of the test images whose class `predict` puts first.
    pub fn top1(&self, predict: impl Fn(&Tensor) -> Result<Tensor>) -> Result<f64> {
        match &self.source {
            Source::Memory { test, .. } => test.top1(EVALUATED as i64, predict),
            Source::Folder { test, .. } => {
                let options = LoaderOptions::evaluation(self.shape[1] as usize, EVALUATED);
                self.loader(test, options)?.top1(predict)
            }
        }
    }

    /// The first test images.
    pub fn probe(&self, count: i64) -> Result<Tensor> {
        let count = count.min(self.test_images());
        match &self.source {
            Source::Memory { test, .. } => {
                Ok(test.select(&Tensor::f_arange(count, (Kind::Int64, self.device))?)?.0)
            }
            Source::Folder { test, .. } => {
                let options = LoaderOptions::evaluation(self.shape[1] as usize, count as usize);
                Ok(self.loader(test, options)?.at(0)?.images)
            }
        }
    }
}

/// A class has the same number in both: their names are those of the folders, in order.
fn expect_same_classes(
    folder: &Path,
    train: &ImageFolder,
    test: &ImageFolder,
) -> Result<(), AnyError> {
    let (folder, counts) = (folder.display(), [train.classes(), test.classes()]);
    if counts[0] != counts[1] {
        let [train, test] = counts;
        return Err(format!("{folder}: train/ has {train} classes, val/ {test}").into());
    }
    let mut names = train.class_names().zip(test.class_names()).enumerate();
    match names.find(|(_, (train, test))| train != test) {
        None => Ok(()),
        Some((number, (train, test))) => Err(format!(
            "{folder}: class {number} is {train} in train/ and {test} in val/: expected the same"
        )
        .into()),
    }
}

impl Stream<'_> {
    pub fn steps_per_epoch(&self) -> u64 {
        match self {
            Self::Memory(batches) => batches.steps_per_epoch(),
            Self::Folder(loader) => loader.steps_per_epoch(),
        }
    }

    pub fn at(&mut self, step: u64) -> Result<Batch> {
        match self {
            Self::Memory(batches) => batches.at(step),
            Self::Folder(loader) => loader.at(step),
        }
    }

    /// Names of the corrupt images that were passed over.
    pub fn corrupt(&self) -> Vec<String> {
        match self {
            Self::Memory(_) => Vec::new(),
            Self::Folder(loader) => loader.corrupt_images().values().cloned().collect(),
        }
    }
}
