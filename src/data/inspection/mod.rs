//! What the loader would take of an image file or a data folder, without stopping at the first
//! fault.

mod files;

use super::idx::{read_idx, IdxImages, Split};
use super::image_folder::{is_hidden, other_class};
use super::shards::is_shard_pattern;
use crate::error::{DecodeError, ShardError};
use crate::{Error, Result};
pub(crate) use files::packed_shard;
use files::{fault, inspect_classes, inspect_shards, size_of};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Layout of inspected images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageSource {
    /// One JPEG or PNG file.
    ImageFile,
    /// One IDX file.
    IdxFile,
    /// Folder with a folder of images per class.
    ClassFolders,
    /// Folder with `train/` and `val/`, each with a folder of images per class.
    TrainAndVal,
    /// Folder of MNIST's four IDX files.
    IdxFiles,
    /// WebDataset tar shards.
    TarShards,
}

/// Result of [`inspect_images`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageInspection {
    /// Path as given.
    pub path: String,
    /// Layout found.
    pub source: ImageSource,
    /// Sets of images: one, or those for training and evaluation.
    pub sets: Vec<InspectedSet>,
}

impl ImageInspection {
    /// Whether every file would be taken by the loader, and there is one.
    pub fn is_accepted(&self) -> bool {
        self.sets.iter().all(|set| set.faults.is_empty() && set.images > 0)
    }
}

/// Images of one set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InspectedSet {
    /// `train`, `val` or `test`; empty if there is one set only.
    pub name: String,
    /// Number of images, those with faults included.
    pub images: usize,
    /// Channels of a decoded image: 1 or 3.
    pub channels: usize,
    /// Classes in their order, with their number of images.
    pub classes: Vec<ClassCount>,
    /// Sizes of the images that can be decoded, the most frequent first.
    pub sizes: Vec<SizeCount>,
    /// Every file or folder that the loader would refuse, with the reason.
    pub faults: Vec<ImageFault>,
}

/// Number of images of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// Name of the class's folder, or the number of the class.
    pub name: String,
    /// Number of images.
    pub images: usize,
}

/// Number of images of a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeCount {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Number of images.
    pub images: usize,
}

/// File or folder that the loader would refuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFault {
    /// The file or folder.
    pub path: String,
    /// The loader's error, with its causes.
    pub reason: String,
}

/// Reads and decodes every image at `path` as the loader would, with at most `max_pixels` pixels each,
/// on all cores, and returns counts, sizes and faults.
///
/// `path` is an image, an IDX file, a folder of classes, a folder with `train/` and `val/`, a folder of
/// MNIST's IDX files, or a pattern of tar shards ([`TarShards::open`](super::TarShards::open)). A folder
/// of another layout has faults, not an error.
///
/// # Errors
/// [`Error::Io`] if there is neither a file nor a folder at `path`, or it cannot be accessed; [`Error::Invalid`] for 0
/// pixels or a pattern with a fault.
pub fn inspect_images(path: &Path, max_pixels: usize) -> Result<ImageInspection> {
    if max_pixels == 0 {
        return Err(Error::invalid("max_pixels", "at least 1", max_pixels));
    }
    if is_shard_pattern(path) {
        let sets = vec![inspect_shards(path, max_pixels)?];
        let path = path.display().to_string();
        return Ok(ImageInspection { path, source: ImageSource::TarShards, sets });
    }
    let about = path.metadata().map_err(|source| Error::io("read", path, source))?;
    // Reading a pipe could wait for ever, and a device need not end.
    if !about.is_dir() && !about.is_file() {
        return Err(Error::io("read", path, crate::files::irregular(path)));
    }
    let (source, mut sets) = if !about.is_dir() {
        inspect_file(path, max_pixels)
    } else if has_train_and_val(path) {
        let sets = ["train", "val"].map(|name| {
            let set = inspect_classes(&path.join(name), max_pixels)?;
            Ok(InspectedSet { name: name.into(), ..set })
        });
        (ImageSource::TrainAndVal, sets.into_iter().collect::<Result<Vec<_>>>()?)
    } else if Split::Train.is_in(path) || Split::Test.is_in(path) {
        let splits = [("train", Split::Train), ("test", Split::Test)];
        let sets = splits
            .map(|(name, split)| InspectedSet { name: name.into(), ..inspect_split(path, split) });
        (ImageSource::IdxFiles, sets.into())
    } else {
        (ImageSource::ClassFolders, vec![inspect_classes(path, max_pixels)?])
    };
    if let [train, other] = &mut sets[..] {
        expect_same_classes(path, source, train, other);
    }
    Ok(ImageInspection { path: path.display().to_string(), source, sets })
}

/// Adds a fault if evaluation has other classes than training: folders have to have the same names,
/// and labels of IDX files not to exceed those of training.
fn expect_same_classes(
    path: &Path,
    source: ImageSource,
    train: &InspectedSet,
    other: &mut InspectedSet,
) {
    if train.classes.is_empty() || other.classes.is_empty() {
        return;
    }
    let names = |set: &InspectedSet| -> Vec<String> {
        set.classes.iter().map(|class| class.name.clone()).collect()
    };
    let (mut training, own) = (names(train), names(other));
    if source == ImageSource::IdxFiles {
        training.truncate(own.len());
    }
    if let Some(reason) = other_class(&other.name, &training, &own) {
        other.faults.push(ImageFault { path: path.display().to_string(), reason });
    }
}

/// Whether a folder has `train/` and `val/`, or a `train/` with folders in it that are not hidden: `train` may also
/// be a class.
fn has_train_and_val(path: &Path) -> bool {
    let train = path.join("train");
    let has_folder = || {
        let mut entries = train.read_dir().into_iter().flatten().flatten();
        entries.any(|entry| !is_hidden(&entry.file_name()) && entry.path().is_dir())
    };
    train.is_dir() && (path.join("val").is_dir() || has_folder())
}

fn inspect_file(path: &Path, max_pixels: usize) -> (ImageSource, Vec<InspectedSet>) {
    if let Some(format) = packed_shard(path) {
        let source = Box::new(ShardError::Compressed { format });
        let faults = vec![fault(path, &Error::Shard { path: path.into(), source })];
        let set = InspectedSet { faults, ..InspectedSet::default() };
        return (ImageSource::TarShards, vec![set]);
    }
    let image = size_of(path, max_pixels);
    if let Err(Error::Image { source: DecodeError::UnknownFormat { found, .. }, .. }) = &image {
        // Two zeros begin an IDX file, and gzip's magic number a compressed one.
        if found.starts_with(&[0, 0]) || found.starts_with(&[0x1f, 0x8b]) {
            return (ImageSource::IdxFile, vec![inspect_idx_file(path)]);
        }
    }
    let mut set = InspectedSet { images: 1, channels: 3, ..InspectedSet::default() };
    match image {
        Ok((width, height)) => set.sizes.push(SizeCount { width, height, images: 1 }),
        Err(error) => set.faults.push(fault(path, &error)),
    }
    (ImageSource::ImageFile, vec![set])
}

fn inspect_idx_file(path: &Path) -> InspectedSet {
    let mut set = InspectedSet::default();
    match read_idx(path) {
        Ok(array) => match array.shape[..] {
            [images, height, width] => {
                (set.images, set.channels) = (images, 1);
                set.sizes.push(SizeCount { width, height, images });
            }
            // A file of labels.
            _ => set.images = array.shape.first().copied().unwrap_or(0),
        },
        Err(error) => set.faults.push(fault(path, &error.into())),
    }
    set
}

fn inspect_split(folder: &Path, split: Split) -> InspectedSet {
    let mut set = InspectedSet::default();
    match IdxImages::open_split(folder, split) {
        Ok(images) => {
            (set.images, set.channels) = (images.count(), 1);
            let (width, height) = (images.width(), images.height());
            set.sizes.push(SizeCount { width, height, images: images.count() });
            let count =
                |label| images.labels().iter().filter(|&&l| usize::from(l) == label).count();
            let count = |label: usize| ClassCount { name: label.to_string(), images: count(label) };
            set.classes = (0..images.classes()).map(count).collect();
        }
        Err(error) => set.faults.push(fault(folder, &error.into())),
    }
    set
}
