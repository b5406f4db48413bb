//! JPEG and PNG to bytes.
//!
//! Every picture comes out as RGB with 8 bits: grey is repeated, palettes are looked up, of 16 bits
//! the upper 8 stay, alpha is dropped, CMYK is converted. Orientation (EXIF) and colour profiles
//! are ignored, as torchvision's `ImageFolder` does.

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

/// Most pixels of a picture; those at which Pillow suspects an attack.
const MOST_PIXELS: usize = 178_956_970;

/// Decodes a JPEG or PNG file, told apart by content, to RGB.
///
/// # Errors
/// [`DecodeError`] for other formats, and for a file that is damaged or cut short.
pub fn decode(bytes: &[u8]) -> Result<Image, DecodeError> {
    EncodedImage::open(bytes)?.decode()
}

/// A JPEG or PNG file whose size is known and whose pixels are not decoded yet.
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
    /// Reads the header of a file, told apart by content.
    ///
    /// # Errors
    /// [`DecodeError`] for other formats, for a file whose header is damaged or whose end is
    /// missing, and for one that claims more pixels than a picture has.
    pub fn open(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let file = if bytes.starts_with(&JPEG_MAGIC) {
            Self(Format::Jpeg(JpegFile::open(bytes)?))
        } else if bytes.starts_with(&PNG_MAGIC) {
            Self(Format::Png(Box::new(PngFile::open(bytes)?)))
        } else {
            let found = bytes[..bytes.len().min(8)].to_vec();
            return Err(DecodeError::UnknownFormat { found });
        };
        let (width, height, most) = (file.width(), file.height(), MOST_PIXELS);
        match width.checked_mul(height) {
            Some(pixels) if pixels <= most => Ok(file),
            _ => Err(DecodeError::TooLarge { width, height, most }),
        }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        match &self.0 {
            Format::Jpeg(file) => file.width(),
            Format::Png(file) => file.width(),
        }
    }

    /// Rows.
    pub fn height(&self) -> usize {
        match &self.0 {
            Format::Jpeg(file) => file.height(),
            Format::Png(file) => file.height(),
        }
    }

    /// The whole image.
    ///
    /// # Errors
    /// [`DecodeError`] for a file that is damaged or cut short.
    pub fn decode(self) -> Result<Image, DecodeError> {
        self.decode_top(usize::MAX)
    }

    /// The first `rows` rows of the image, at least one and at most all of them, with the very
    /// pixels that they have in the whole.
    ///
    /// Of a baseline JPEG, nothing below is decoded: this saves time, and damage there stays
    /// unnoticed, except for a missing end.
    ///
    /// # Errors
    /// [`DecodeError`] for a file that is cut short, or damaged in what has to be decoded.
    pub fn decode_top(self, rows: usize) -> Result<Image, DecodeError> {
        let rows = rows.clamp(1, self.height());
        match self.0 {
            Format::Jpeg(file) => file.decode_top(rows),
            Format::Png(file) => file.decode_top(rows),
        }
    }
}
