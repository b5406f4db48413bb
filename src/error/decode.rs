//! Errors of picture files.

/// Why bytes are not a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Neither JPEG nor PNG.
    #[error("expected a JPEG or PNG file, found one that begins with {found:02x?}")]
    UnknownFormat {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// More pixels than a picture has: a few bytes may claim any size.
    #[error("the picture claims {width} × {height} pixels, expected at most {most} in all")]
    TooLarge {
        /// Columns claimed.
        width: usize,
        /// Rows claimed.
        height: usize,
        /// Most pixels that are decoded.
        most: usize,
    },
    /// A JPEG file without its end.
    #[error("the JPEG file is cut short: found no end-of-image marker in {length} bytes")]
    Truncated {
        /// Bytes present.
        length: usize,
    },
    /// A damaged JPEG file; `source` says where.
    #[error("the JPEG file is damaged or of an unsupported kind")]
    Jpeg {
        /// The decoder's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A damaged PNG file; `source` says where.
    #[error("the PNG file is damaged or of an unsupported kind")]
    Png {
        /// The decoder's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
