//! What every data set offers, wherever its images are.

use super::Image;
use crate::Result;

/// An image and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledImage {
    /// The decoded image.
    pub image: Image,
    /// Its class, less than the data set's number of classes.
    pub class: usize,
}

/// Labelled images by index. Worker threads share one.
pub trait Dataset: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes.
    fn classes(&self) -> usize;

    /// Channels of every image: 1 or 3.
    fn channels(&self) -> usize;

    /// What an image is called in messages: its file, usually.
    fn name(&self, index: usize) -> String;

    /// Reads and decodes an image.
    ///
    /// # Errors
    /// [`crate::Error::Image`] if it is damaged: only this one is ever skipped. Any other if it
    /// cannot be read, or there is no such index.
    fn load(&self, index: usize) -> Result<LabelledImage>;

    /// For images that are JPEG or PNG files: fills `file` with the bytes of one, whatever was in
    /// it before, and returns its class. A loader then decodes itself, and no more than the crop
    /// takes. `None`, as by default: images come from [`load`](Self::load) alone.
    ///
    /// # Errors
    /// If it cannot be read, or there is no such index.
    fn read(&self, index: usize, file: &mut Vec<u8>) -> Result<Option<usize>> {
        let _ = (index, file);
        Ok(None)
    }
}
