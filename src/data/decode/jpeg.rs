//! JPEG decoding.

use super::cursor::Cursor;
use super::frame::Frame;
use super::Image;
use crate::error::DecodeError;
use std::panic::{catch_unwind, AssertUnwindSafe};
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// End-of-image marker. Within entropy-coded data, 0xff is never followed by 0xd9.
const END: [u8; 2] = [0xff, 0xd9];

/// JPEG file with an end-of-image marker.
pub(super) struct JpegFile<'a> {
    bytes: &'a [u8],
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// Single-scan sequential file: decoded from the top down to the last row needed.
    Sequential(Frame),
    /// Any other file: decoded as a whole.
    Other { decoder: Box<JpegDecoder<Cursor<'a>>>, width: usize, height: usize },
}

impl<'a> JpegFile<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let frame = Frame::of(bytes);
        // Checked here because the decoder fills missing rows with grey. Only the coded data count:
        // a thumbnail in the header has an end-of-image marker of its own.
        let coded = &bytes[frame.map_or(0, |frame| frame.data_at)..];
        if !coded.windows(2).rev().any(|pair| pair == END) {
            return Err(DecodeError::Truncated { length: bytes.len() });
        }
        if let Some(frame) = frame {
            return Ok(Self { bytes, kind: Kind::Sequential(frame) });
        }
        let mut decoder = decoder(bytes);
        guarded(|| decoder.decode_headers())?;
        let (width, height) =
            decoder.dimensions().ok_or_else(|| error("no dimensions in the header"))?;
        Ok(Self { bytes, kind: Kind::Other { decoder: Box::new(decoder), width, height } })
    }

    pub fn width(&self) -> usize {
        match &self.kind {
            Kind::Sequential(frame) => frame.width,
            Kind::Other { width, .. } => *width,
        }
    }

    pub fn height(&self) -> usize {
        match &self.kind {
            Kind::Sequential(frame) => frame.height,
            Kind::Other { height, .. } => *height,
        }
    }

    pub fn decode_top(self, rows: usize) -> Result<Image, DecodeError> {
        let width = self.width();
        let mut pixels = match self.kind {
            Kind::Sequential(frame) => decode_sequential(self.bytes, &frame, rows)?,
            Kind::Other { decoder, .. } => pixels(*decoder)?,
        };
        pixels.truncate(rows * width * 3);
        Image::new(width, rows, 3, pixels).map_err(error)
    }
}

/// Decodes at least the first `rows` rows.
fn decode_sequential(bytes: &[u8], frame: &Frame, rows: usize) -> Result<Vec<u8>, DecodeError> {
    let decoded = frame.rows_for(rows);
    if decoded == frame.height {
        return pixels(decoder(bytes));
    }
    let shortened =
        frame.shortened(bytes, decoded).ok_or_else(|| error("no height in the header"))?;
    pixels(decoder(&shortened))
}

/// Decodes all pixels. A panic of the decoder becomes an error: zune-jpeg 0.5 panics on some small
/// files with a scan for each component.
fn pixels(mut decoder: JpegDecoder<Cursor<'_>>) -> Result<Vec<u8>, DecodeError> {
    guarded(|| decoder.decode())
}

fn guarded<T>(decode: impl FnOnce() -> Result<T, DecodeErrors>) -> Result<T, DecodeError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or(Err(DecodeErrors::FormatStatic("the decoder panicked")))
        .map_err(damaged)
}

fn decoder(bytes: &[u8]) -> JpegDecoder<Cursor<'_>> {
    // Without strict mode, the decoder fills unreadable parts with grey.
    let options =
        DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    JpegDecoder::new_with_options(Cursor::new(bytes), options)
}

fn damaged(source: DecodeErrors) -> DecodeError {
    error(format!("{source:?}"))
}

fn error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DecodeError {
    DecodeError::Jpeg { source: source.into() }
}
