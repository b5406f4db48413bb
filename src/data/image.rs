//! A decoded image.

use crate::{Error, Result};

/// Bytes of an image: rows from the top, channels last, grey or RGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// An image from its bytes.
    ///
    /// # Shapes
    /// `pixels`: height × width × channels.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless both sides are positive, channels are 1 or 3, and there are as many
    /// bytes as that makes.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        if channels != 1 && channels != 3 {
            return Err(Error::invalid("channels of an image", "1 or 3", channels));
        }
        let expected = width.checked_mul(height).and_then(|area| area.checked_mul(channels));
        if expected != Some(pixels.len()) || pixels.is_empty() {
            return Err(Error::invalid(
                "bytes of an image",
                format!("{width} × {height} × {channels}, more than none"),
                pixels.len(),
            ));
        }
        Ok(Self { width, height, channels, pixels })
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 for grey, 3 for RGB.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The bytes, height × width × channels.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The same bytes, to be changed in place.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Where the first channel of a pixel is in the bytes.
    pub(super) fn offset(&self, x: usize, y: usize) -> usize {
        (y * self.width + x) * self.channels
    }

    /// Appends the bytes to `planes`, channels first: channels × height × width.
    pub(super) fn append_planes(&self, planes: &mut Vec<u8>) {
        for channel in 0..self.channels {
            planes.extend(self.pixels.iter().skip(channel).step_by(self.channels));
        }
    }
}
