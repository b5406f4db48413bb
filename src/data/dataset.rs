//! The interface of a data set.

use super::{EncodedImage, Image, DEFAULT_MAX_PIXELS};
use crate::{Error, Result};
use std::ops::Range;

/// A decoded image and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledImage {
    /// The decoded image.
    pub image: Image,
    /// Class index, less than [`Dataset::classes`].
    pub class: usize,
}

/// Labelled images by index, as PyTorch's map-style `Dataset`. All worker threads share one.
pub trait Dataset: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes.
    fn classes(&self) -> usize;

    /// Channels of every image: 1 (grey) or 3 (RGB).
    fn channels(&self) -> usize;

    /// Name of an image for error messages, usually its path.
    fn name(&self, index: usize) -> String;

    /// Ranges of indices whose images are stored one after the other, such as those of a tar shard, in
    /// ascending order and without gaps. [`Order::Shards`](super::Order::Shards) reads them nearly one
    /// after the other. Default: one range of all images.
    fn shards(&self) -> Vec<Range<usize>> {
        std::iter::once(0..self.len()).collect()
    }

    /// Returns the decoded image and its class. The default decodes the file that [`read`](Self::read) reads; a data set
    /// has one of the two methods of its own.
    ///
    /// # Errors
    /// [`Error::Image`] for an image that cannot be decoded; the loader may
    /// skip it, see [`OnCorrupt`](super::OnCorrupt). Any other error, for an image that cannot be
    /// read or an index out of range, ends the loader's work.
    fn load(&self, index: usize) -> Result<LabelledImage> {
        let mut file = Vec::new();
        let Some(class) = self.read(index, &mut file)? else {
            let expected = "of its own, as the data set has no `read`";
            return Err(Error::invalid("method `load` of the data set", expected, "the default"));
        };
        let image = EncodedImage::open_within(&file, self.max_pixels())
            .and_then(EncodedImage::decode)
            .map_err(|source| Error::Image { name: self.name(index), source })?;
        Ok(LabelledImage { image, class })
    }

    /// Checksum that differs for other images: a run that is resumed, and processes that train together,
    /// compare it. It has to be the same for the same images in another folder.
    ///
    /// Default: CRC-32 of the number of classes and of all names. Override it where names contain a
    /// folder that differs between machines, or where [`name`](Self::name) reads a file.
    fn fingerprint(&self) -> u32 {
        let names = (0..self.len()).map(|index| self.name(index));
        let mut checksum = Checksum::of_classes(self.classes());
        names.for_each(|name| checksum.add(name.as_bytes()));
        checksum.finish()
    }

    /// Largest accepted number of pixels of an image that [`read`](Self::read) returns: the loader
    /// refuses a larger one before it reserves memory for it.
    fn max_pixels(&self) -> usize {
        DEFAULT_MAX_PIXELS
    }

    /// Reads the JPEG or PNG file of an image into `file`, replacing its content, and returns the
    /// class.
    ///
    /// With this method, the loader decodes by itself, and only the rows that the crop needs. The
    /// default returns `None`: the loader then calls [`load`](Self::load).
    ///
    /// # Errors
    /// Any error for an image that cannot be read or an index out of range.
    fn read(&self, index: usize, file: &mut Vec<u8>) -> Result<Option<usize>> {
        let _ = (index, file);
        Ok(None)
    }
}

/// CRC-32 of the parts of a data set, each with its length.
pub(super) struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// Begins with the number of classes.
    pub fn of_classes(classes: usize) -> Self {
        let mut checksum = Self(crc32fast::Hasher::new());
        checksum.add(&(classes as u64).to_le_bytes());
        checksum
    }

    /// Adds a part.
    pub fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// Returns the checksum.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}
