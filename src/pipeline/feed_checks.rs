//! Checks of the folder that images come from.

use super::{AugmentationPreset, DataConfig};
use crate::data::{Dataset, ImageFolder};
use crate::{Error, Result};
use std::path::Path;

/// Refuses a folder without IDX files, and options that IDX files cannot have.
pub(super) fn expect_idx(folder: &Path, config: &DataConfig) -> Result<()> {
    let refused = |got: &str, but: &str| {
        let reason = format!(
            "data folder: got {got}, expected train/ and val/ with a folder per class, or IDX files \
             under MNIST's names{but}"
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
    let counts = [train.classes(), test.classes()];
    if counts[0] != counts[1] {
        let [train, test] = counts;
        let reason = format!("classes: got {test} in val/, expected {train} as in train/");
        return Err(Error::file(folder, reason));
    }
    let mut names = train.class_names().zip(test.class_names()).enumerate();
    match names.find(|(_, (train, test))| train != test) {
        None => Ok(()),
        Some((number, (train, test))) => Err(Error::file(
            folder,
            format!("class {number}: got {test} in val/, expected {train} as in train/"),
        )),
    }
}
