//! Pairs of IDX files: images and labels.

use super::{read_idx, IdxArray, IdxError};
use crate::data::dataset::Checksum;
use crate::data::image_folder::no_such_index;
use crate::data::{Dataset, Image, LabelledImage};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Split of a data set with MNIST's standard file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// Training images: files with prefix `train-`.
    Train,
    /// Test images: files with prefix `t10k-`.
    Test,
}

impl Split {
    /// Whether a folder has the images or the labels of this split.
    pub(in crate::data) fn is_in(self, folder: &Path) -> bool {
        let prefix = self.prefix();
        let names = [format!("{prefix}-images-idx3-ubyte"), format!("{prefix}-labels-idx1-ubyte")];
        names.into_iter().any(|name| find(folder, name).is_ok())
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "t10k",
        }
    }
}

/// Grey images and their labels, from a pair of IDX files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxImages {
    images: IdxArray,
    labels: Vec<u8>,
    labels_path: PathBuf,
    classes: usize,
    size: [usize; 3],
}

impl IdxImages {
    /// Reads a file of images and a file of their labels.
    ///
    /// The number of classes is the highest label + 1;
    /// [`with_classes`](Self::with_classes) sets another.
    ///
    /// # Shapes
    /// Images: `[N, H, W]`; labels: `[N]`.
    ///
    /// # Errors
    /// Those of [`read_idx`]; [`IdxError::Rank`] for another rank (such as swapped files);
    /// [`IdxError::NoImages`]; [`IdxError::CountsDiffer`].
    pub fn open(images_path: &Path, labels_path: &Path) -> Result<Self, IdxError> {
        let images = read_idx(images_path)?;
        let &[count, height, width] = images.shape.as_slice() else {
            return Err(rank_error(images_path, "images", 3, images.shape));
        };
        if images.values.is_empty() {
            return Err(IdxError::NoImages { path: images_path.into(), shape: images.shape });
        }
        let labels = read_idx(labels_path)?;
        if labels.shape.len() != 1 {
            return Err(rank_error(labels_path, "labels", 1, labels.shape));
        }
        let labels = labels.values;
        if labels.len() != count {
            return Err(IdxError::CountsDiffer {
                images_path: images_path.into(),
                labels_path: labels_path.into(),
                images: count,
                labels: labels.len(),
            });
        }
        let classes = labels.iter().max().map_or(0, |&highest| usize::from(highest) + 1);
        let size = [count, height, width];
        Ok(Self { images, labels, labels_path: labels_path.into(), classes, size })
    }

    /// Reads a split from the standard files in a folder: `train-images-idx3-ubyte` and
    /// `train-labels-idx1-ubyte`, or those with `t10k` for [`Split::Test`].
    ///
    /// Each may be plain or end in `.gz`; a plain file is preferred.
    ///
    /// # Errors
    /// [`IdxError::SplitMissing`] if the folder lacks one of the files; those of
    /// [`open`](Self::open).
    pub fn open_split(folder: &Path, split: Split) -> Result<Self, IdxError> {
        let images = find(folder, format!("{}-images-idx3-ubyte", split.prefix()))?;
        let labels = find(folder, format!("{}-labels-idx1-ubyte", split.prefix()))?;
        Self::open(&images, &labels)
    }

    /// Sets the number of classes.
    ///
    /// # Errors
    /// [`IdxError::LabelOutOfRange`] if a label is not less than `classes`.
    pub fn with_classes(mut self, classes: usize) -> Result<Self, IdxError> {
        let too_high = |&label: &u8| usize::from(label) >= classes;
        if let Some(index) = self.labels.iter().position(too_high) {
            let (path, label) = (self.labels_path, self.labels[index]);
            return Err(IdxError::LabelOutOfRange { path, index, label, classes });
        }
        self.classes = classes;
        Ok(self)
    }

    /// Number of images, at least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        self.size[0]
    }

    /// Height of each image in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.size[1]
    }

    /// Width of each image in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.size[2]
    }

    /// Number of classes: as set, or the highest label + 1.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Images, `[N, H, W]`.
    #[must_use]
    pub fn images(&self) -> &IdxArray {
        &self.images
    }

    /// Labels, one an image, each less than [`classes`](Self::classes).
    #[must_use]
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Returns images `[N, H, W]` and labels without copying them.
    #[must_use]
    pub fn into_parts(self) -> (IdxArray, Vec<u8>) {
        (self.images, self.labels)
    }
}

impl Dataset for IdxImages {
    fn len(&self) -> usize {
        self.count()
    }

    fn classes(&self) -> usize {
        self.classes()
    }

    fn channels(&self) -> usize {
        1
    }

    fn name(&self, index: usize) -> String {
        format!("image {index} of {}", self.labels_path.display())
    }

    /// Of the number of classes, the shape of the images, the labels and the pixels: not of the paths of the files.
    fn fingerprint(&self) -> u32 {
        let mut checksum = Checksum::of_classes(self.classes);
        checksum.add(self.size.map(|size| (size as u64).to_le_bytes()).as_flattened());
        checksum.add(&self.labels);
        checksum.add(&self.images.values);
        checksum.finish()
    }

    fn load(&self, index: usize) -> crate::Result<LabelledImage> {
        let label = self.labels.get(index).ok_or_else(|| no_such_index(index, self.count()))?;
        let size = self.height() * self.width();
        let pixels = self.images.values[index * size..][..size].to_vec();
        let image = Image::new(self.width(), self.height(), 1, pixels)?;
        Ok(LabelledImage { image, class: usize::from(*label) })
    }
}

fn rank_error(path: &Path, role: &'static str, expected: usize, shape: Vec<usize>) -> IdxError {
    IdxError::Rank { path: path.into(), role, expected, shape }
}

/// Returns the path of a file by its standard name, plain or with `.gz`. Some archives are unpacked to a folder of
/// that name.
fn find(folder: &Path, name: String) -> Result<PathBuf, IdxError> {
    for path in [folder.join(&name), folder.join(format!("{name}.gz"))] {
        match path.metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Ok(path),
            Err(source) if source.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(IdxError::Open { path, source }),
        }
    }
    Err(IdxError::SplitMissing { folder: folder.into(), expected: name })
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
