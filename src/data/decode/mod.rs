//! Decoding of JPEG and PNG files to 8-bit RGB.
//!
//! Grey values are repeated in all three channels, palettes are looked up, 16-bit values keep their
//! upper 8 bits, alpha is dropped, CMYK is converted. EXIF orientation and colour profiles are
//! ignored, as in torchvision's `ImageFolder`.

mod format;
mod jpeg;
mod png;

use self::jpeg::JpegFile;
use self::png::PngFile;
use super::Image;
use crate::error::DecodeError;

const JPEG_MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];
const PNG_MAGIC: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Largest accepted number of pixels of an image, where no other is set: 64 megapixels.
///
/// Decoding takes at most 5 bytes a pixel, or 11 for a JPEG of several scans, such as a progressive
/// one.
pub const DEFAULT_MAX_PIXELS: usize = 64_000_000;

/// Decodes a JPEG or PNG file to RGB. The format is recognised by content.
///
/// # Errors
/// Those of [`EncodedImage::open`], and [`DecodeError`] for a damaged file.
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
    /// Reads the header of a file with at most [`DEFAULT_MAX_PIXELS`] pixels. The format is
    /// recognised by content.
    ///
    /// # Errors
    /// Those of [`open_within`](Self::open_within).
    pub fn open(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::open_within(bytes, DEFAULT_MAX_PIXELS)
    }

    /// Reads the header of a file with at most `max_pixels` pixels. Reserves no memory for pixels: the
    /// size in the header is first checked against the limit and against the length of the file.
    ///
    /// # Errors
    /// [`DecodeError`] for another format, a coding that is not supported, a damaged header, a
    /// truncated JPEG, a header that claims more than `max_pixels` pixels, and one that claims more
    /// than a file of this length can hold.
    pub fn open_within(bytes: &'a [u8], max_pixels: usize) -> Result<Self, DecodeError> {
        let file = if bytes.starts_with(&JPEG_MAGIC) {
            Self(Format::Jpeg(JpegFile::open(bytes)?))
        } else if bytes.starts_with(&PNG_MAGIC) {
            Self(Format::Png(Box::new(PngFile::open(bytes, max_pixels)?)))
        } else {
            return Err(unknown_format(bytes));
        };
        let (width, height, most) = (file.width(), file.height(), max_pixels);
        if width.checked_mul(height).is_none_or(|pixels| pixels > most) {
            return Err(DecodeError::TooLarge { width, height, most });
        }
        match &file.0 {
            Format::Jpeg(file) => file.check_length()?,
            Format::Png(file) => file.check_length()?,
        }
        Ok(file)
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

fn unknown_format(bytes: &[u8]) -> DecodeError {
    if bytes.is_empty() {
        return DecodeError::Empty;
    }
    if bytes.starts_with(format::LFS_MAGIC) {
        return DecodeError::LfsPointer;
    }
    let found = bytes[..bytes.len().min(8)].to_vec();
    DecodeError::UnknownFormat { name: format::name(bytes).unwrap_or("unknown"), found }
}
