//! PNG decoding.

use super::Image;
use crate::error::DecodeError;
use png::{ColorType, Decoder, Reader, Transformations};
use std::io::Cursor;

/// PNG file whose header has been read.
pub(super) struct PngFile<'a>(Reader<Cursor<&'a [u8]>>);

impl<'a> PngFile<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(Transformations::normalize_to_color8());
        Ok(Self(decoder.read_info().map_err(error)?))
    }

    pub fn width(&self) -> usize {
        self.0.info().width as usize
    }

    pub fn height(&self) -> usize {
        self.0.info().height as usize
    }

    /// Decodes all rows, so that the checksums are verified, and keeps the first `rows`.
    pub fn decode_top(mut self, rows: usize) -> Result<Image, DecodeError> {
        let reader = &mut self.0;
        let size = reader.output_buffer_size().ok_or_else(|| error("too large for memory"))?;
        let mut pixels = vec![0; size];
        let info = reader.next_frame(&mut pixels).map_err(error)?;
        // Reads to the end of the file, to detect one that is truncated after its pixels.
        reader.finish().map_err(error)?;
        let width = info.width as usize;
        pixels.truncate(rows * width * info.color_type.samples());
        let pixels = match info.color_type {
            ColorType::Rgb => pixels,
            ColorType::Rgba => pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
            ColorType::Grayscale => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
            ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
            ColorType::Indexed => return Err(error("the palette was not applied")),
        };
        Image::new(width, rows, 3, pixels).map_err(error)
    }
}

fn error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DecodeError {
    DecodeError::Png { source: source.into() }
}
