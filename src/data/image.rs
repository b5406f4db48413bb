//! A decoded image.

use crate::{Error, Result};
use std::fmt;

/// Bytes of an image: rows from the top, channels last, grey or RGB.
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

    #[cfg(feature = "data")]
    /// Writes to `planes`, channels first, what `tables` has for the bytes of each channel.
    ///
    /// # Shapes
    /// `tables`: channels; `planes`: channels × height × width.
    pub(super) fn write_planes(&self, tables: &[[f32; 256]], planes: &mut [f32]) {
        let area = self.width * self.height;
        // All channels of a pixel at a time, so that the bytes are read once.
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

    #[cfg(feature = "data")]
    /// Appends the bytes to `planes`, channels first: channels × height × width.
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
