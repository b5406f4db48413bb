//! JPEG and PNG to bytes.
//!
//! Every picture comes out as RGB with 8 bits: grey is repeated, palettes are looked up, of 16 bits
//! the upper 8 stay, alpha is dropped, CMYK is converted. Orientation (EXIF) and colour profiles
//! are ignored, as torchvision's `ImageFolder` does.

use super::Image;
use crate::error::DecodeError;
use png::ColorType;
use std::io::Cursor;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

const JPEG_MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];
const PNG_MAGIC: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// End of image: within coded data, 0xff is never followed by this.
const JPEG_END: [u8; 2] = [0xff, 0xd9];

/// Decodes a JPEG or PNG file, told apart by content, to RGB.
///
/// # Errors
/// [`DecodeError`] for other formats, and for a file that is damaged or cut short.
pub fn decode(bytes: &[u8]) -> Result<Image, DecodeError> {
    if bytes.starts_with(&JPEG_MAGIC) {
        decode_jpeg(bytes)
    } else if bytes.starts_with(&PNG_MAGIC) {
        decode_png(bytes)
    } else {
        Err(DecodeError::UnknownFormat { found: bytes[..bytes.len().min(8)].to_vec() })
    }
}

fn decode_jpeg(bytes: &[u8]) -> Result<Image, DecodeError> {
    let damaged = |source: zune_jpeg::errors::DecodeErrors| jpeg_error(format!("{source:?}"));
    // The decoder fills what is missing from the last rows with grey.
    if !bytes.windows(2).rev().any(|pair| pair == JPEG_END) {
        return Err(DecodeError::Truncated { length: bytes.len() });
    }
    // Not strict, it would also fill what it cannot read anywhere else.
    let options =
        DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(damaged)?;
    let info = decoder.info().ok_or_else(|| jpeg_error("no header"))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    Image::new(width, height, 3, pixels).map_err(jpeg_error)
}

fn jpeg_error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DecodeError {
    DecodeError::Jpeg { source: source.into() }
}

fn png_error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DecodeError {
    DecodeError::Png { source: source.into() }
}

fn decode_png(bytes: &[u8]) -> Result<Image, DecodeError> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(png_error)?;
    let size = reader.output_buffer_size().ok_or_else(|| png_error("too large for memory"))?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(png_error)?;
    // Reads on to the end: a file that is cut behind its pixels is cut all the same.
    reader.finish().map_err(png_error)?;
    pixels.truncate(info.buffer_size());
    let pixels = match info.color_type {
        ColorType::Rgb => pixels,
        ColorType::Rgba => pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::Grayscale => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        ColorType::Indexed => return Err(png_error("the palette was not applied")),
    };
    Image::new(info.width as usize, info.height as usize, 3, pixels).map_err(png_error)
}
