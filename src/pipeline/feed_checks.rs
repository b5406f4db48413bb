//! Checks of the options of images, and of the folder that they come from.

use super::{AugmentationPreset, DataConfig};
use crate::data::{other_class, ImageFolder, Normalisation};
use crate::{Error, Result};
use std::path::Path;

/// Refuses options of tar shards for images in a folder.
pub(super) fn expect_folder_options(config: &DataConfig) -> Result<()> {
    match config.shards.is_default() {
        true => Ok(()),
        false => {
            let expected =
                "none, unless data.folder (--data) is a pattern of tar shards, which ends \
                            in .tar";
            Err(Error::invalid("options data.shards (--val)", expected, "some"))
        }
    }
}

/// Refuses a part of the training images, which only IDX files have.
pub(super) fn expect_whole(config: &DataConfig, expected: &str) -> Result<()> {
    match config.images.is_none() && config.validation == 0 {
        true => Ok(()),
        false => Err(Error::invalid("data.images and data.validation", expected, "some")),
    }
}

/// Refuses normalisation values other than none and three.
pub(super) fn expect_rgb(config: &DataConfig) -> Result<()> {
    match [config.mean.len(), config.std.len()] {
        [0, 0] | [3, 3] => Ok(()),
        _ => Err(other_channels(&config.mean, &config.std, 3)),
    }
}

/// Refuses a folder without IDX files, and options that IDX files cannot have.
pub(super) fn expect_idx(folder: &Path, config: &DataConfig) -> Result<()> {
    let refused = |got: &str, but: &str| {
        let reason = format!(
            "data folder: got {got}, expected train/ and val/ with a folder per class, or IDX files \
             under MNIST's names, or a pattern of tar shards that ends in .tar{but}"
        );
        Err(Error::file(folder, reason))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(_) if !folder.exists() => return refused("none", "; correct data.folder (--data)"),
        Err(_) if !folder.is_dir() => return refused("a file", "; correct data.folder (--data)"),
        Err(error) => return Err(Error::io("read", folder, error)),
    };
    let is_idx = |name: &str| name.contains("-idx1-ubyte") || name.contains("-idx3-ubyte");
    if !entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_idx)) {
        return refused("neither of both", "");
    }
    if config.augmentation == AugmentationPreset::Deit {
        return refused("no train/", ", for which data.augmentation is light or none, not deit");
    }
    match config.mean.len() {
        0 | 1 => Ok(()),
        channels => refused(
            "no train/",
            &format!(", but data.mean has {channels} channels, and IDX has one"),
        ),
    }
}

/// Relative difference below which two values of a normalisation are the same: statistics of the same pixels differ in their
/// last bits between devices.
const SAME: f64 = 1e-5;

/// Refuses normalisation values that are not those of the images in memory.
pub(super) fn expect_normalised(config: &DataConfig, images: &Normalisation) -> Result<()> {
    let Normalisation { mean, std } = images;
    for (name, given, own) in [("data.mean", &config.mean, mean), ("data.std", &config.std, std)] {
        let differs = |(given, own): (&f64, &f64)| (given - own).abs() > SAME * own.abs();
        let is_same = given.len() == own.len() && !given.iter().zip(own).any(differs);
        if !given.is_empty() && !is_same {
            let expected = format!("none, or {own:?} as the images have (ImageSet::normalised)");
            return Err(Error::invalid(name, expected, format!("{given:?}")));
        }
    }
    Ok(())
}

/// The error of normalisation values for another number of channels.
pub(super) fn other_channels(mean: &[f64], std: &[f64], channels: usize) -> Error {
    let expected = format!("{channels} each, one a channel; leave both out for the default");
    let actual = format!("{} and {}", mean.len(), std.len());
    Error::invalid("values of data.mean and data.std", expected, actual)
}

/// Refuses `train/` and `val/` with other classes, because classes are numbered by folder names.
pub(super) fn expect_same_classes(
    folder: &Path,
    train: &ImageFolder,
    test: &ImageFolder,
) -> Result<()> {
    let [train, test] = [train, test].map(|images| images.class_names().collect::<Vec<_>>());
    match other_class("val", &train, &test) {
        None => Ok(()),
        Some(reason) => Err(Error::file(folder, reason)),
    }
}
