//! Why a checkpoint file cannot be read.

use tch::TchError;

/// What is wrong with a checkpoint file. [`Error::Checkpoint`](super::Error::Checkpoint) has its path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Neither of the two formats.
    #[error("expected a safetensors file or a torch zip archive, found a file that begins with {found:02x?}")]
    Unrecognised {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },

    /// A pickle without an archive around it, as torch wrote before 1.6.
    #[error(
        "a bare pickle, as torch wrote before 1.6, is not read; convert it in Python: \
         torch.save(torch.load(path, map_location=\"cpu\"), path)"
    )]
    Legacy,

    /// The operating system failed to read on.
    #[error("the file cannot be read to its end")]
    Io(#[from] std::io::Error),

    /// A damaged safetensors file.
    #[error("damaged as a safetensors file")]
    Safetensors {
        /// The format's own words.
        source: TchError,
    },

    /// libtorch refused a tensor that had passed every check.
    #[error("libtorch refused {tensor}")]
    Tensor {
        /// Its name in the state dict.
        tensor: String,
        /// libtorch's words.
        source: TchError,
    },

    /// A damaged zip archive, or one that uses what torch never writes.
    #[error("damaged as a zip archive, at {entry}")]
    Archive {
        /// The entry, or "its directory".
        entry: String,
        /// The archive reader's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// An entry every torch archive has, or one that a tensor points to.
    #[error("the archive has no entry {entry}")]
    EntryMissing {
        /// Its name.
        entry: String,
    },

    /// Written on a machine of the other byte order.
    #[error("byte order is {found:?}, expected \"little\"")]
    ByteOrder {
        /// What the archive says.
        found: String,
    },

    /// More than any honest file of this length holds.
    #[error("{what} claims {actual} bytes, at most {limit} are read")]
    TooLarge {
        /// The entry.
        what: String,
        /// What is allowed.
        limit: u64,
        /// What it claims.
        actual: u64,
    },

    /// More of something than any honest file holds.
    #[error("{what} is {actual}, at most {limit} are read")]
    TooMany {
        /// What is counted.
        what: String,
        /// What is allowed.
        limit: u64,
        /// What there is, or what is claimed.
        actual: u64,
    },

    /// An instruction that no state dict needs.
    #[error("unsupported pickle opcode 0x{opcode:02x} at byte {offset}")]
    Opcode {
        /// The instruction.
        opcode: u8,
        /// Where in the pickle.
        offset: usize,
    },

    /// A pickle that contradicts itself.
    #[error("malformed pickle at byte {offset}: expected {expected}, found {found}")]
    Pickle {
        /// Where in the pickle.
        offset: usize,
        /// What would have made sense.
        expected: &'static str,
        /// What is there.
        found: String,
    },

    /// Code where only tensors belong. It was not run.
    #[error("{entry} needs {global}, which a state dict of tensors does not; it was not run")]
    ForeignGlobal {
        /// The entry of the state dict.
        entry: String,
        /// Module and name, such as `os.system`.
        global: String,
    },

    /// Something else where a tensor belongs.
    #[error("{entry} is {found}, expected {expected}")]
    Entry {
        /// The entry of the state dict.
        entry: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },

    /// A tensor whose shape, strides and offset make no sense.
    #[error("{tensor} has shape {shape:?}, strides {strides:?} and offset {offset}: expected {expected}")]
    Layout {
        /// Its name.
        tensor: String,
        /// What would have made sense.
        expected: &'static str,
        /// Its shape.
        shape: Vec<i64>,
        /// Its strides.
        strides: Vec<i64>,
        /// Its first element in the storage.
        offset: i64,
    },

    /// A tensor that reaches beyond its storage.
    #[error("{tensor} needs {needed} elements of storage {storage}, which holds {actual}")]
    Storage {
        /// Its name.
        tensor: String,
        /// The storage's key in the archive.
        storage: String,
        /// One more than the last element used; or what the pickle says the storage holds.
        needed: u64,
        /// The elements there are.
        actual: u64,
    },
}
