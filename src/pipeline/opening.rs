//! Opens the images of a feed: tar shards, folders of classes, or IDX files.

use super::feed_checks::{
    expect_folder_options, expect_idx, expect_rgb, expect_same_classes, expect_whole,
    other_channels,
};
use super::feed_shards::open_shards;
use super::{DataConfig, Feed};
use crate::data::idx::{IdxImages, Split};
use crate::data::shards::is_shard_pattern;
use crate::data::transform::EvalTransform;
use crate::data::{ImageFolder, ImageSet};
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

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
        if config.crop_share != EvalTransform::SHARE {
            let expected = "none for IDX files, whose images are evaluated whole";
            return Err(Error::invalid("data.crop_share", expected, config.crop_share));
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
        Self::in_memory(train, test, config)
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
}
