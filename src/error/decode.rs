//! Errors of image files.

/// Why an image file cannot be decoded. The path or name is in the error around it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Neither JPEG nor PNG.
    #[error("image format: got first bytes {found:02x?}, expected JPEG or PNG; convert the file")]
    UnknownFormat {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// The header claims more pixels than are accepted: decoding would need too much memory.
    #[error(
        "image size: got {width} × {height} pixels in the header, expected at most {most} in all"
    )]
    TooLarge {
        /// Width in the header.
        width: usize,
        /// Height in the header.
        height: usize,
        /// Largest accepted number of pixels.
        most: usize,
    },
    /// A truncated JPEG file: its end-of-image marker is missing.
    #[error(
        "JPEG file: got {length} bytes without an end-of-image marker, expected a complete file; \
         copy or download it again"
    )]
    Truncated {
        /// Length of the file in bytes.
        length: usize,
    },
    /// A damaged or unsupported JPEG file; `source` has the decoder's message.
    #[error(
        "JPEG file: got damaged or unsupported data, expected a baseline or progressive JPEG of 8 \
         bits"
    )]
    Jpeg {
        /// Error of the decoder.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A damaged or unsupported PNG file; `source` has the decoder's message.
    #[error("PNG file: got damaged or unsupported data, expected a complete PNG")]
    Png {
        /// Error of the decoder.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
