//! A decoded image.

use crate::{Error, Result};
use std::fmt;

/// Decoded image of 8-bit values, height × width × channels, grey or RGB.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl fmt::Debug for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, height, channels, .. } = self;
        write!(formatter, "Image({width} × {height}, {channels} channels)")
    }
}

impl Image {
    /// Returns an image with these values.
    ///
    /// # Shapes
    /// `pixels`: height × width × channels, top row first.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless width and height are positive, channels are 1 or 3, and `pixels`
    /// has width × height × channels values.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        if channels != 1 && channels != 3 {
            return Err(Error::invalid("channels of an image", "1 or 3", channels));
        }
        let expected = width.checked_mul(height).and_then(|area| area.checked_mul(channels));
        if expected != Some(pixels.len()) || pixels.is_empty() {
            return Err(Error::invalid(
                "bytes of an image",
                format!("{width} × {height} × {channels}, more than 0"),
                pixels.len(),
            ));
        }
        Ok(Self { width, height, channels, pixels })
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Number of channels: 1 for grey, 3 for RGB.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Values, height × width × channels.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Values, height × width × channels, mutable.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Looks up every value in the table of its channel and writes the results to `planes`,
    /// channels first.
    ///
    /// # Shapes
    /// `tables`: one a channel; `planes`: channels × height × width.
    #[cfg(feature = "data")]
    pub(super) fn write_planes(&self, tables: &[[f32; 256]], planes: &mut [f32]) {
        let area = self.width * self.height;
        // All channels of a pixel together, so that the bytes are read once.
        if let ([reds, greens, blues], 3) = (tables, self.channels) {
            let (red, rest) = planes.split_at_mut(area);
            let (green, blue) = rest.split_at_mut(area);
            let planes = red.iter_mut().zip(green).zip(blue);
            for (pixel, ((red, green), blue)) in self.pixels.as_chunks::<3>().0.iter().zip(planes) {
                *red = reds[usize::from(pixel[0])];
                *green = greens[usize::from(pixel[1])];
                *blue = blues[usize::from(pixel[2])];
            }
        } else if let Some(table) = tables.first() {
            for (value, byte) in planes.iter_mut().zip(&self.pixels) {
                *value = table[usize::from(*byte)];
            }
        }
    }

    /// Appends the values to `planes`, channels first: channels × height × width.
    #[cfg(feature = "data")]
    pub(super) fn append_planes(&self, planes: &mut Vec<u8>) {
        let (start, area) = (planes.len(), self.width * self.height);
        planes.extend_from_slice(&self.pixels);
        if self.channels == 1 {
            return;
        }
        let (red, rest) = planes[start..].split_at_mut(area);
        let (green, blue) = rest.split_at_mut(area);
        let planes = red.iter_mut().zip(green).zip(blue);
        for (pixel, ((red, green), blue)) in self.pixels.chunks_exact(3).zip(planes) {
            (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
        }
    }
}
