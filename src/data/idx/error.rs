//! Errors of IDX files.

use std::io;
use std::path::PathBuf;

/// Error of an IDX file, or of a pair of image and label files.
///
/// Every variant names the file. An underlying error is in `source`, and not in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdxError {
    /// The file cannot be opened.
    #[error("cannot open the IDX file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file cannot be read after it was opened.
    #[error("cannot read the IDX file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file starts with gzip's magic number, but is not a complete gzip file.
    #[error(
        "gzip file {path}: got damaged or truncated data, expected a complete file; download it \
         again"
    )]
    Gzip {
        /// The file.
        path: PathBuf,
        /// Error of the gzip decoder.
        source: io::Error,
    },
    /// The file does not start with an IDX header.
    #[error(
        "IDX file {path}: got first bytes {found:02x?}, expected two zero bytes, an element type \
         and a rank"
    )]
    NotIdx {
        /// The file.
        path: PathBuf,
        /// First bytes after decompression, at most four.
        found: Vec<u8>,
    },
    /// The file is an IDX file of another element type than unsigned byte.
    #[error(
        "IDX element type of {path}: got 0x{found:02x} ({}), expected 0x{expected:02x} ({})",
        super::type_name(*found), super::type_name(*expected)
    )]
    ElementType {
        /// The file.
        path: PathBuf,
        /// Code of unsigned byte, the only supported type.
        expected: u8,
        /// Code in the file.
        found: u8,
    },
    /// The file ends inside its header.
    #[error(
        "IDX file {path}: got {found} bytes of dimension sizes, expected {expected}; the file is \
         truncated"
    )]
    TruncatedHeader {
        /// The file.
        path: PathBuf,
        /// Bytes of dimension sizes for the rank in the header.
        expected: usize,
        /// Bytes present.
        found: usize,
    },
    /// The file has fewer values than its header says.
    #[error(
        "IDX file {path}: got {found} values, expected {expected} for shape {shape:?}; the file is \
         truncated"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The shape in the header.
        shape: Vec<usize>,
        /// Number of values of the shape.
        expected: u64,
        /// Values present.
        found: u64,
    },
    /// The file has bytes after its last value.
    #[error(
        "IDX file {path}: got bytes after its values, expected the end after {expected} values for \
         shape {shape:?}"
    )]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// The shape in the header.
        shape: Vec<usize>,
        /// Number of values of the shape.
        expected: u64,
    },
    /// The header claims more values than a file of this size can hold.
    #[error(
        "IDX file {path}: got shape {shape:?} in the header, expected at most {limit} values in a \
         file of its size"
    )]
    ImpossibleShape {
        /// The file.
        path: PathBuf,
        /// The shape in the header.
        shape: Vec<usize>,
        /// Largest accepted number of values.
        limit: u64,
    },
    /// The array has the wrong number of dimensions for its role.
    #[error("IDX file of {role} {path}: got shape {shape:?}, expected rank {expected}")]
    Rank {
        /// The file.
        path: PathBuf,
        /// Role of the file: images or labels.
        role: &'static str,
        /// Rank of the role.
        expected: usize,
        /// The shape in the file.
        shape: Vec<usize>,
    },
    /// The image file has no pixels: one of its sizes is 0.
    #[error("IDX file of images {path}: got shape {shape:?}, expected sizes of at least 1")]
    NoImages {
        /// The file of the images.
        path: PathBuf,
        /// The shape in the file.
        shape: Vec<usize>,
    },
    /// The numbers of images and labels differ.
    #[error(
        "number of labels in {labels_path}: got {labels}, expected {images}, the number of images \
         in {images_path}"
    )]
    CountsDiffer {
        /// The file of the images.
        images_path: PathBuf,
        /// The file of the labels.
        labels_path: PathBuf,
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A label is not less than the number of classes.
    #[error(
        "label {index} in {path}: got {label}, expected less than {classes}, the number of classes"
    )]
    LabelOutOfRange {
        /// The file of the labels.
        path: PathBuf,
        /// Index of the first such label, from 0.
        index: usize,
        /// The label.
        label: u8,
        /// The number of classes.
        classes: usize,
    },
    /// A folder lacks a file of the standard name, plain and compressed.
    #[error("IDX folder {folder}: got no file {expected} or {expected}.gz, expected one of them; give the folder in which the \
         files are")]
    SplitMissing {
        /// The folder.
        folder: PathBuf,
        /// The standard name, without `.gz`.
        expected: String,
    },
}

impl From<IdxError> for crate::Error {
    fn from(error: IdxError) -> Self {
        Self::Idx(Box::new(error))
    }
}
