//! What can be wrong with an IDX file or with a pair of them.

use std::io;
use std::path::PathBuf;

/// Why an IDX file, or a pair of image and label files, was refused.
///
/// Every variant names the file. An underlying cause is kept in `source` and is not
/// repeated in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdxError {
    /// The file cannot be opened.
    #[error("cannot open the IDX file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file was opened, but the system failed to read it.
    #[error("cannot read the IDX file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file begins like gzip, but cannot be unpacked as gzip to its end.
    #[error("the gzip file {path} is damaged or cut short")]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What the decoder found.
        source: io::Error,
    },
    /// The file does not begin like any IDX file.
    #[error(
        "{path} is not an IDX file: expected it to begin with two zero bytes, an element \
         type and a rank, found {found:02x?}"
    )]
    NotIdx {
        /// The file.
        path: PathBuf,
        /// Its first bytes (unpacked), at most four.
        found: Vec<u8>,
    },
    /// The file is an IDX file of elements other than unsigned bytes.
    #[error(
        "unsupported IDX element type in {path}: expected 0x{expected:02x} ({}), found \
         0x{found:02x} ({})", super::type_name(*expected), super::type_name(*found)
    )]
    ElementType {
        /// The file.
        path: PathBuf,
        /// The code of the only type read here, unsigned byte.
        expected: u8,
        /// The code in the file.
        found: u8,
    },
    /// The file ends within the sizes of its dimensions.
    #[error(
        "the IDX file {path} is cut short in its header: expected {expected} bytes of \
         dimension sizes, found {found}"
    )]
    TruncatedHeader {
        /// The file.
        path: PathBuf,
        /// Bytes that the sizes take for the rank in the header.
        expected: usize,
        /// Bytes present.
        found: usize,
    },
    /// The file holds fewer values than its header says.
    #[error(
        "the IDX file {path} is cut short: expected {expected} values for shape {shape:?}, \
         found {found}"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The shape in the header.
        shape: Vec<usize>,
        /// Values that the shape makes.
        expected: u64,
        /// Values present.
        found: u64,
    },
    /// The file goes on after the last value that its header announces.
    #[error(
        "the IDX file {path} goes on after its data: expected {expected} values for shape \
         {shape:?} and then the end, found more"
    )]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// The shape in the header.
        shape: Vec<usize>,
        /// Values that the shape makes.
        expected: u64,
    },
    /// The header announces more values than any file of this size could hold.
    #[error(
        "impossible header in the IDX file {path}: shape {shape:?} makes more values than \
         the {limit} that a file of its size could hold, however compressed"
    )]
    ImpossibleShape {
        /// The file.
        path: PathBuf,
        /// The shape in the header.
        shape: Vec<usize>,
        /// The most values that were accepted.
        limit: u64,
    },
    /// The array has another number of dimensions than its use needs.
    #[error("{path} does not hold {role}: expected rank {expected}, found shape {shape:?}")]
    Rank {
        /// The file.
        path: PathBuf,
        /// What the file was opened as: images or labels.
        role: &'static str,
        /// The rank needed.
        expected: usize,
        /// The shape in the file.
        shape: Vec<usize>,
    },
    /// The image file holds no pixel: one of its sizes is zero.
    #[error("no images in {path}: expected sizes of at least 1, found shape {shape:?}")]
    NoImages {
        /// The file of the images.
        path: PathBuf,
        /// The shape in the file.
        shape: Vec<usize>,
    },
    /// The two files of a pair do not have one label for each image.
    #[error(
        "expected one label for each image, found {images} images in {images_path} and \
         {labels} labels in {labels_path}"
    )]
    CountsDiffer {
        /// The file of the images.
        images_path: PathBuf,
        /// The file of the labels.
        labels_path: PathBuf,
        /// How many images there are.
        images: usize,
        /// How many labels there are.
        labels: usize,
    },
    /// A label names a class that does not exist.
    #[error(
        "label {index} in {path} is out of range: expected less than {classes}, found {label}"
    )]
    LabelOutOfRange {
        /// The file of the labels.
        path: PathBuf,
        /// The place of the first such label, counted from 0.
        index: usize,
        /// The label.
        label: u8,
        /// The number of classes.
        classes: usize,
    },
    /// A folder has no file of the standard name, neither plain nor packed.
    #[error("no data in the folder {folder}: expected a file {expected} or {expected}.gz, found neither")]
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
