//! Pairs of IDX files: images and the class of each.

use std::path::{Path, PathBuf};

use super::{read_idx, IdxArray, IdxError};

/// A split of a data set with the standard file names of MNIST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// The training examples: files that begin with `train-`.
    Train,
    /// The test examples: files that begin with `t10k-`.
    Test,
}

impl Split {
    fn prefix(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "t10k",
        }
    }
}

/// Grey images and the class of each, read from a pair of IDX files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxImages {
    images: IdxArray,
    labels: Vec<u8>,
    pub(super) labels_path: PathBuf,
    classes: usize,
    size: [usize; 3],
}

impl IdxImages {
    /// Reads a file of images (rank 3: count, height, width) and one of their labels (rank 1).
    ///
    /// The number of classes is taken to be one more than the highest label; see
    /// [`with_classes`](Self::with_classes) to set it.
    ///
    /// # Errors
    ///
    /// [`IdxError`] when [`read_idx`] refuses a file, when a rank is another (the two files
    /// swapped, for instance), when there are no images, or when there is not one label for
    /// each image.
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

    /// Reads a split from the standard files in a folder.
    ///
    /// These are `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or the same with
    /// `t10k` for [`Split::Test`], each plain or with `.gz` behind; the plain one is
    /// preferred where both are there.
    ///
    /// # Errors
    ///
    /// [`IdxError::SplitMissing`] when the folder lacks one of the files, and what
    /// [`open`](Self::open) answers.
    pub fn open_split(folder: &Path, split: Split) -> Result<Self, IdxError> {
        let images = find(folder, format!("{}-images-idx3-ubyte", split.prefix()))?;
        let labels = find(folder, format!("{}-labels-idx1-ubyte", split.prefix()))?;
        Self::open(&images, &labels)
    }

    /// Sets the number of classes, which may be more than the labels show.
    ///
    /// # Errors
    ///
    /// [`IdxError::LabelOutOfRange`] when a label is not less than `classes`.
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

    /// Number of classes: as set, or one more than the highest label.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The images, of shape count, height, width.
    #[must_use]
    pub fn images(&self) -> &IdxArray {
        &self.images
    }

    /// The label of each image, every one less than [`classes`](Self::classes).
    #[must_use]
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Hands over the images and the labels without copying them.
    #[must_use]
    pub fn into_parts(self) -> (IdxArray, Vec<u8>) {
        (self.images, self.labels)
    }
}

fn rank_error(path: &Path, role: &'static str, expected: usize, shape: Vec<usize>) -> IdxError {
    IdxError::Rank { path: path.into(), role, expected, shape }
}

/// Finds a file by its standard name, plain or with `.gz` behind.
fn find(folder: &Path, name: String) -> Result<PathBuf, IdxError> {
    for path in [folder.join(&name), folder.join(format!("{name}.gz"))] {
        match path.try_exists() {
            Ok(true) => return Ok(path),
            Ok(false) => {}
            Err(source) => return Err(IdxError::Open { path, source }),
        }
    }
    Err(IdxError::SplitMissing { folder: folder.into(), expected: name })
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
