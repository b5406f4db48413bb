//! Images of a run: section `[data]` of the configuration.

use crate::data::transform::{EvalTransform, CROP_SHARE};
use crate::data::DEFAULT_CORRUPT_IMAGES;
use crate::range::{Range, SHARE};
use crate::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const IMAGES: Range<i64> = Range::closed(1, 1 << 32);
const WORKERS: Range<usize> = Range::closed(1, 1 << 10);
const STD: Range<f64> = Range::closed(1e-6, 1e6);
/// Pixels of an image.
const PIXELS: Range<usize> = Range::closed(1, u32::MAX as usize);
/// Corrupt images that are skipped.
const CORRUPT: Range<usize> = Range::closed(0, u32::MAX as usize);
/// Images of a shuffle buffer, as those of a loader.
const BUFFER: Range<usize> = Range::closed(1, u32::MAX as usize);

/// Images of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Images: a folder with `train/` and `val/`, each with a folder per class; a folder of IDX files;
    /// or the pattern of the training set's tar shards, such as `train-{000..146}.tar`.
    pub folder: Option<PathBuf>,
    /// Whether the program may use images of its own if there is no folder.
    #[serde(default)]
    pub built_in: bool,
    /// Number of training images, from the first on; all if not given. IDX files only.
    pub images: Option<i64>,
    /// Number of training images that are held out and evaluated on instead of the test images, for
    /// tuning. IDX files only.
    #[serde(default)]
    pub validation: i64,
    /// Augmentation of the training images.
    pub augmentation: AugmentationPreset,
    /// Mean of each channel, in [0, 1]. Empty: measured on the training images of IDX files,
    /// ImageNet's for folders and shards of RGB images, that of the set for images in memory.
    #[serde(default)]
    pub mean: Vec<f64>,
    /// Standard deviation of each channel. Empty: as the mean.
    #[serde(default)]
    pub std: Vec<f64>,
    /// Threads that decode; all cores if not given. Batches do not depend on it.
    pub workers: Option<usize>,
    /// Largest accepted number of pixels of an image; 64 million if not given. Not for IDX files.
    pub max_pixels: Option<usize>,
    /// Share of the shorter side that the central crop of an evaluation keeps, and of training without augmentation, in
    /// [0.01, 1], timm's `crop_pct`; 0.875 if not given. Not for IDX files.
    #[serde(default = "default_crop_share")]
    pub crop_share: f64,
    /// Largest number of different corrupt images that the training of a stage skips; 10 if not given. A
    /// run may be resumed with another limit. Images of IDX files are never corrupt.
    #[serde(default = "default_corrupt_images")]
    pub corrupt_images: usize,
    /// Options of tar shards.
    #[serde(default, skip_serializing_if = "ShardsConfig::is_default")]
    pub shards: ShardsConfig,
}

/// Options of images in tar shards ([`TarShards`](crate::data::TarShards)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardsConfig {
    /// Pattern of the shards to evaluate on; has to be given.
    pub val: Option<PathBuf>,
    /// File in which the positions of the images are saved, so that the shards are scanned once; no
    /// file if not given.
    pub index: Option<PathBuf>,
    /// Images among which the training images are shuffled, after their shards
    /// ([`Order::Shards`](crate::data::Order::Shards)); 20,000 if not given.
    pub shuffle_buffer: Option<usize>,
}

/// Augmentation of training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AugmentationPreset {
    /// None.
    None,
    /// Images in memory: padding by 2 pixels, random crop, flip. Folders and shards: random
    /// resized crop, flip.
    Light,
    /// That of DeiT: repeated augmentation, RandAugment, mixup, cutmix, erasing. Not for images in
    /// memory.
    Deit,
}

fn default_crop_share() -> f64 {
    EvalTransform::SHARE
}

fn default_corrupt_images() -> usize {
    DEFAULT_CORRUPT_IMAGES
}

impl DataConfig {
    /// Images with this augmentation; all other options have their defaults, and a folder is not given.
    pub fn new(augmentation: AugmentationPreset) -> Self {
        Self {
            folder: None,
            built_in: false,
            images: None,
            validation: 0,
            augmentation,
            mean: Vec::new(),
            std: Vec::new(),
            workers: None,
            max_pixels: None,
            crop_share: default_crop_share(),
            corrupt_images: default_corrupt_images(),
            shards: ShardsConfig::default(),
        }
    }

    /// Checks the range of every option.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming the option, its value and what is allowed.
    pub fn check(&self) -> Result<()> {
        self.images.map_or(Ok(()), |images| IMAGES.check("data.images", images))?;
        Range::closed(0, 1 << 32).check("data.validation", self.validation)?;
        self.workers.map_or(Ok(()), |workers| WORKERS.check("data.workers", workers))?;
        let pixels = self.max_pixels;
        pixels.map_or(Ok(()), |pixels| PIXELS.check("data.max_pixels", pixels))?;
        CROP_SHARE.check("data.crop_share", self.crop_share)?;
        CORRUPT.check("data.corrupt_images", self.corrupt_images)?;
        let buffer = self.shards.shuffle_buffer;
        buffer.map_or(Ok(()), |buffer| BUFFER.check("data.shards.shuffle_buffer", buffer))?;
        self.mean.iter().try_for_each(|&mean| SHARE.check("data.mean", mean))?;
        self.std.iter().try_for_each(|&std| STD.check("data.std", std))
    }

    /// Takes mean and standard deviation of `saved` where none are given.
    pub(super) fn keep_normalisation_of(&mut self, saved: &Self) {
        if self.mean.is_empty() && self.std.is_empty() {
            self.mean.clone_from(&saved.mean);
            self.std.clone_from(&saved.std);
        }
    }

    /// Takes those places of the images of `saved` that are not given.
    pub(super) fn fill_places_of(&mut self, saved: &Self) {
        let from = saved.clone().places().map(Option::take);
        for (place, saved) in self.places().into_iter().zip(from) {
            *place = place.take().or(saved);
        }
    }

    /// Takes the places of the images of `given`.
    pub(super) fn take_places_of(&mut self, given: &Self) {
        let from = given.clone().places().map(Option::take);
        for (place, given) in self.places().into_iter().zip(from) {
            *place = given;
        }
    }

    /// The options that say where the images are.
    fn places(&mut self) -> [&mut Option<PathBuf>; 3] {
        [&mut self.folder, &mut self.shards.val, &mut self.shards.index]
    }
}

impl ShardsConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_not_given_have_the_defaults_of_a_file() -> Result<(), toml::de::Error> {
        let read: DataConfig = toml::from_str("augmentation = 'deit'")?;
        assert_eq!(DataConfig::new(AugmentationPreset::Deit), read);
        Ok(())
    }
}
