//! Decoding of JPEG and PNG files to 8-bit RGB.
//!
//! Grey values are repeated in all three channels, palettes are looked up, 16-bit values keep their
//! upper 8 bits, alpha is dropped, CMYK is converted. EXIF orientation and colour profiles are
//! ignored, as in torchvision's `ImageFolder`.

mod cursor;
mod frame;
mod jpeg;
mod png;

use self::jpeg::JpegFile;
use self::png::PngFile;
use super::Image;
use crate::error::DecodeError;

const JPEG_MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];
const PNG_MAGIC: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Largest accepted number of pixels, that of Pillow's decompression bomb check.
const MAX_PIXELS: usize = 178_956_970;

/// Decodes a JPEG or PNG file to RGB. The format is recognised by content.
///
/// # Errors
/// [`DecodeError`] for another format, and for a damaged or truncated file.
pub fn decode(bytes: &[u8]) -> Result<Image, DecodeError> {
    EncodedImage::open(bytes)?.decode()
}

/// JPEG or PNG file in memory of which only the header has been decoded.
pub struct EncodedImage<'a>(Format<'a>);

enum Format<'a> {
    Jpeg(JpegFile<'a>),
    Png(Box<PngFile<'a>>),
}

impl std::fmt::Debug for EncodedImage<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let format = match &self.0 {
            Format::Jpeg(_) => "JPEG",
            Format::Png(_) => "PNG",
        };
        write!(formatter, "EncodedImage({format}, {} × {})", self.width(), self.height())
    }
}

impl<'a> EncodedImage<'a> {
    /// Decodes the header of a file. The format is recognised by content.
    ///
    /// # Errors
    /// [`DecodeError`] for another format, a damaged header, a truncated JPEG, and a header that
    /// claims more than 178,956,970 pixels.
    pub fn open(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let file = if bytes.starts_with(&JPEG_MAGIC) {
            Self(Format::Jpeg(JpegFile::open(bytes)?))
        } else if bytes.starts_with(&PNG_MAGIC) {
            Self(Format::Png(Box::new(PngFile::open(bytes)?)))
        } else {
            let found = bytes[..bytes.len().min(8)].to_vec();
            return Err(DecodeError::UnknownFormat { found });
        };
        let (width, height, most) = (file.width(), file.height(), MAX_PIXELS);
        match width.checked_mul(height) {
            Some(pixels) if pixels <= most => Ok(file),
            _ => Err(DecodeError::TooLarge { width, height, most }),
        }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        match &self.0 {
            Format::Jpeg(file) => file.width(),
            Format::Png(file) => file.width(),
        }
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        match &self.0 {
            Format::Jpeg(file) => file.height(),
            Format::Png(file) => file.height(),
        }
    }

    /// Decodes the whole image.
    ///
    /// # Errors
    /// [`DecodeError`] for a damaged or truncated file.
    pub fn decode(self) -> Result<Image, DecodeError> {
        self.decode_top(usize::MAX)
    }

    /// Decodes the top `rows` rows, at least one and at most all. Their pixels equal those of
    /// [`decode`](Self::decode).
    ///
    /// Of a baseline JPEG, the rows below are not decoded. This saves time, but does not detect
    /// damage there, except for a missing end-of-image marker. Other files are decoded as a whole.
    ///
    /// # Errors
    /// [`DecodeError`] for a truncated file, or damage in the decoded part.
    pub fn decode_top(self, rows: usize) -> Result<Image, DecodeError> {
        let rows = rows.clamp(1, self.height());
        match self.0 {
            Format::Jpeg(file) => file.decode_top(rows),
            Format::Png(file) => file.decode_top(rows),
        }
    }
}
