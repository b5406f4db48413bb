//! PNG decoding.

use super::Image;
use crate::data::MAX_BYTES_PER_PACKED_BYTE;
use crate::error::DecodeError;
use png::{ColorType, Decoder, DecodingError, Limits, Reader, Transformations};
use std::io::Cursor;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Bytes before the first chunk.
const SIGNATURE: usize = 8;
/// Length, type and checksum of a chunk.
const CHUNK: usize = 12;

/// Bytes of a pixel with four channels of 16 bits.
const MAX_BYTES_PER_PIXEL: usize = 8;
/// Fewest bytes that the decoder may take for a row and the chunks beside the pixels.
const LEAST_LIMIT: usize = 1 << 26;

/// PNG file whose header has been read.
pub(super) struct PngFile<'a> {
    bytes: &'a [u8],
    reader: Reader<Cursor<&'a [u8]>>,
}

impl<'a> PngFile<'a> {
    /// Reads the header of a file whose rows have at most `max_pixels` pixels. Reserves no memory for
    /// pixels.
    pub fn open(bytes: &'a [u8], max_pixels: usize) -> Result<Self, DecodeError> {
        guarded(|| Self::read_header(bytes, max_pixels))
    }

    fn read_header(bytes: &'a [u8], max_pixels: usize) -> Result<Self, DecodeError> {
        let limits =
            Limits { bytes: max_pixels.saturating_mul(MAX_BYTES_PER_PIXEL).max(LEAST_LIMIT) };
        let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
        decoder.set_transformations(Transformations::normalize_to_color8());
        // Neither changes a pixel, and both may be large once unpacked.
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        let reader = decoder.read_info().map_err(|source| match (source, claimed_size(bytes)) {
            (DecodingError::LimitsExceeded, Some((width, height))) => {
                DecodeError::TooLarge { width, height, most: max_pixels }
            }
            (source, _) => damaged(source),
        })?;
        Ok(Self { bytes, reader })
    }

    pub fn width(&self) -> usize {
        self.reader.info().width as usize
    }

    pub fn height(&self) -> usize {
        self.reader.info().height as usize
    }

    /// Refuses a file whose image data are too short for the size in its header.
    pub fn check_length(&self) -> Result<(), DecodeError> {
        let info = self.reader.info();
        let (width, height, length) = (self.width(), self.height(), self.bytes.len());
        let bits = (info.bits_per_pixel() as u64).checked_mul(width as u64);
        let unpacked = bits.and_then(|bits| bits.div_ceil(8).checked_mul(height as u64));
        let least = unpacked.unwrap_or(u64::MAX).div_ceil(MAX_BYTES_PER_PACKED_BYTE);
        let coded = image_data(self.bytes);
        if coded >= least {
            return Ok(());
        }
        Err(DecodeError::Implausible { width, height, length, coded, least })
    }

    /// Decodes all rows, so that the checksums are verified, and keeps the first `rows`.
    pub fn decode_top(self, rows: usize) -> Result<Image, DecodeError> {
        guarded(|| self.decode(rows))
    }

    fn decode(self, rows: usize) -> Result<Image, DecodeError> {
        let (width, mut reader) = (self.width(), self.reader);
        let size = reader.output_buffer_size().ok_or_else(|| error("too large for memory"))?;
        let mut pixels = vec![0; size];
        // Of an animation, this is the image that programs without animation show.
        let info = reader.next_frame(&mut pixels).map_err(damaged)?;
        // Reads to the end of the file, to detect one that is truncated after its pixels.
        reader.finish().map_err(damaged)?;
        if info.width as usize != width || pixels.len() < rows * width * info.color_type.samples() {
            return Err(error("a first image of another size than the header's"));
        }
        pixels.truncate(rows * width * info.color_type.samples());
        let pixels = match info.color_type {
            ColorType::Rgb => pixels,
            ColorType::Rgba => without_alpha(pixels),
            ColorType::Grayscale => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
            ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
            ColorType::Indexed => return Err(error("the palette was not applied")),
        };
        Image::new(width, rows, 3, pixels).map_err(error)
    }
}

/// A panic of the decoder becomes an error.
fn guarded<T>(decode: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(error("the decoder panicked")))
}

/// RGB of RGBA values, in the same memory.
fn without_alpha(mut pixels: Vec<u8>) -> Vec<u8> {
    let count = pixels.len() / 4;
    for at in 0..count {
        pixels.copy_within(4 * at..4 * at + 3, 3 * at);
    }
    pixels.truncate(3 * count);
    pixels
}

/// Number of bytes in the chunks of image data.
fn image_data(bytes: &[u8]) -> u64 {
    let (mut at, mut sum) = (SIGNATURE, 0);
    while let Some([a, b, c, d, name @ ..]) =
        bytes.get(at..).and_then(|rest| rest.first_chunk::<8>())
    {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        match name {
            b"IEND" => break,
            // A cut chunk is one of the decoder's errors.
            b"IDAT" => sum += length.min(bytes.len() - at) as u64,
            _ => {}
        }
        at = at.saturating_add(length).saturating_add(CHUNK);
    }
    sum
}

/// Returns width and height as the header claims them.
fn claimed_size(bytes: &[u8]) -> Option<(usize, usize)> {
    let header = bytes.get(SIGNATURE + 8..)?.first_chunk::<8>()?;
    let [a, b, c, d, height @ ..] = *header;
    Some((u32::from_be_bytes([a, b, c, d]) as usize, u32::from_be_bytes(height) as usize))
}

/// An error of the decoder, whose message has chunks as their name alone.
fn damaged(source: DecodingError) -> DecodeError {
    const CHUNK: &str = "ChunkType { type: ";
    let mut text = source.to_string();
    while let Some(start) = text.find(CHUNK) {
        let (before, chunk) = (text[..start].to_string(), &text[start + CHUNK.len()..]);
        let name = chunk.split([',', ' ', '}']).next().unwrap_or_default();
        let after = chunk.find('}').map_or("", |end| &chunk[end + 1..]);
        text = format!("{before}{name}{after}");
    }
    error(text)
}

fn error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DecodeError {
    DecodeError::Png { source: source.into() }
}
