//! Errors of image files.

/// Why an image file cannot be decoded. The path or name is in the error around it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A file without content.
    #[error("image file: got 0 bytes, expected JPEG or PNG; copy or download it again")]
    Empty,
    /// The text that Git LFS puts in the place of a large file.
    #[error(
        "image file: got a Git LFS pointer, expected JPEG or PNG; fetch the file: git lfs pull"
    )]
    LfsPointer,
    /// Neither JPEG nor PNG.
    #[error(
        "image format: got {name}, first bytes {found:02x?}, expected JPEG or PNG; convert the file"
    )]
    UnknownFormat {
        /// Name of the format, or "unknown".
        name: &'static str,
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// A file that is longer than any image within the limit of pixels.
    #[error(
        "length of the image file: got {length} bytes, expected at most {most}; raise max_pixels (of a \
         run: data.max_pixels), or save the image without its other data"
    )]
    TooLong {
        /// Length of the file in bytes.
        length: u64,
        /// Largest accepted length.
        most: u64,
    },
    /// The header claims more pixels than are accepted: decoding would need too much memory.
    #[error(
        "image size: got {width} × {height} pixels in the header, expected at most {most} in all; \
         raise max_pixels (of a run: data.max_pixels), or reduce the image"
    )]
    TooLarge {
        /// Width in the header.
        width: usize,
        /// Height in the header.
        height: usize,
        /// Largest accepted number of pixels.
        most: usize,
    },
    /// The header claims more pixels than the file's image data can hold.
    #[error(
        "image data: got {coded} of the {length} bytes of the file for {width} × {height} pixels in \
         the header, expected at least {least}; copy or download it again"
    )]
    Implausible {
        /// Width in the header.
        width: usize,
        /// Height in the header.
        height: usize,
        /// Length of the file in bytes.
        length: usize,
        /// Bytes of image data in it.
        coded: u64,
        /// Fewest bytes that any image of this size has.
        least: u64,
    },
    /// A JPEG file of a coding process that is not supported.
    #[error(
        "JPEG process: got {process}, expected baseline, extended sequential or progressive with \
         Huffman coding and 8 bits; convert the file"
    )]
    Unsupported {
        /// Name of the process.
        process: &'static str,
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
