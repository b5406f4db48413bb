//! JPEG decoding.
//!
//! libjpeg-turbo's decoder, as `mozjpeg` packages it, gives Pillow's pixels exactly. It fills what is
//! missing with grey and only warns, so its warnings of damage are errors here (`warnings`), and the
//! markers are checked before it reserves memory (`layout`).

mod layout;
mod progression;
mod warnings;

use super::Image;
use crate::error::DecodeError;
use layout::Layout;
use mozjpeg::decompress::DecompressStarted;
use mozjpeg::{ColorSpace, Decompress};
use std::panic::{catch_unwind, AssertUnwindSafe};

/// JPEG file whose markers have been checked.
pub(super) struct JpegFile<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> JpegFile<'a> {
    /// Reads the markers. Reserves no memory for pixels.
    pub fn open(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(Self { bytes, layout: Layout::of(bytes)? })
    }

    pub fn width(&self) -> usize {
        self.layout.width
    }

    pub fn height(&self) -> usize {
        self.layout.height
    }

    /// Refuses a file that is too short for the size in its header.
    pub fn check_length(&self) -> Result<(), DecodeError> {
        self.layout.check_length(self.bytes.len())
    }

    /// Decodes the first `rows` rows.
    pub fn decode_top(self, rows: usize) -> Result<Image, DecodeError> {
        let Layout { width, height, .. } = self.layout;
        // libjpeg has no error codes: an error unwinds through it (see `warnings`).
        let decoded = catch_unwind(AssertUnwindSafe(|| decode(self.bytes, width, height, rows)));
        let pixels = decoded.unwrap_or_else(|panic| Err(error(warnings::message(&*panic))))?;
        Image::new(width, rows, 3, pixels).map_err(error)
    }
}

fn decode(bytes: &[u8], width: usize, height: usize, rows: usize) -> Result<Vec<u8>, DecodeError> {
    let decoder = Decompress::with_err(warnings::strict()).from_mem(bytes).map_err(error)?;
    if decoder.size() != (width, height) {
        return Err(error("two sizes in the header"));
    }
    let mut pixels = vec![0; rows * width * 3];
    let decoder = match decoder.color_space() {
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => {
            let mut decoder = decoder.to_colorspace(ColorSpace::JCS_CMYK).map_err(error)?;
            read_cmyk(&mut decoder, width, &mut pixels)?;
            decoder
        }
        _ => {
            let mut decoder = decoder.rgb().map_err(error)?;
            decoder.read_scanlines_into(&mut pixels).map_err(error)?;
            decoder
        }
    };
    if rows == height {
        // Reads to the end-of-image marker.
        decoder.finish().map_err(error)?;
    }
    Ok(pixels)
}

/// Reads CMYK rows and converts them to RGB as Pillow does, with the inverted values that Adobe's
/// programs write.
fn read_cmyk(
    decoder: &mut DecompressStarted<&[u8]>,
    width: usize,
    pixels: &mut [u8],
) -> Result<(), DecodeError> {
    let mut row = vec![0; width * 4];
    for target in pixels.chunks_exact_mut(width * 3) {
        decoder.read_scanlines_into(&mut row).map_err(error)?;
        for (rgb, cmyk) in target.as_chunks_mut::<3>().0.iter_mut().zip(row.as_chunks::<4>().0) {
            let [inks @ .., black] = cmyk.map(|inverted| 255 - inverted);
            *rgb = inks.map(|ink| without_ink(ink, 255 - black));
        }
    }
    Ok(())
}

/// `light` less the share `ink` of it: light − light·ink/255, rounded to nearest.
fn without_ink(ink: u8, light: u8) -> u8 {
    let product = u32::from(ink) * u32::from(light) + 128;
    light.saturating_sub((((product >> 8) + product) >> 8) as u8)
}

fn error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DecodeError {
    DecodeError::Jpeg { source: source.into() }
}
