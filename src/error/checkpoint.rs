//! Errors of reading a checkpoint file.

use tch::TchError;

/// A file by its first bytes, as text, or in hexadecimal where they are none.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok("") => "an empty file".into(),
        Ok(text) => format!("a file that begins with {text:?}"),
        Err(_) => format!("a file that begins with the bytes {bytes:02x?}"),
    }
}

/// A dict by its first keys.
fn dict(keys: &[String]) -> String {
    match keys {
        [] => "an empty dict".into(),
        keys => format!("a dict with the keys {}", keys.join(", ")),
    }
}

/// Fault of a checkpoint file. [`Error::Checkpoint`](super::Error::Checkpoint) has its path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file of another format.
    #[error(
        "format: got {}, expected safetensors or the zip archive of \
         torch.save; give the path of the file with the weights",
        shown(found)
    )]
    Unrecognised {
        /// First bytes, at most eight.
        found: Vec<u8>,
    },

    /// An archive of torch.save, in a program built without the feature `import`.
    #[error(
        "format: got an archive of torch.save, expected a safetensors file; \
         build once-for-both with the feature \"import\" to read it"
    )]
    FeatureMissing,

    /// A pickle without an archive around it, as torch wrote before version 1.6.
    #[error(
        "format: got a bare pickle, as torch wrote before version 1.6, expected a zip archive; \
         convert it in Python: torch.save(torch.load(path, map_location=\"cpu\"), \"weights.pth\")"
    )]
    Legacy,

    /// A file that stands for weights which are elsewhere, or of another purpose.
    #[error(
        "format: got {found}, expected safetensors or the zip archive of torch.save; {advice}"
    )]
    NotWeights {
        /// What the file is.
        found: &'static str,
        /// What to do instead.
        advice: &'static str,
    },

    /// A folder without weights.
    #[error(
        "got a folder without weights, expected model.safetensors, pytorch_model.bin or an index of \
         either in it; give the path of the file with the weights"
    )]
    NoWeights,

    /// A shard of a checkpoint in several files that cannot be read.
    #[error("shard {file} of the checkpoint")]
    Shard {
        /// Name of the file.
        file: String,
        /// What is wrong with it.
        source: Box<CheckpointError>,
    },

    /// A malformed index of a checkpoint in several files.
    #[error("index of the shards: got {found}, expected {expected}")]
    Index {
        /// Valid content.
        expected: &'static str,
        /// Content found.
        found: String,
    },

    /// The operating system failed to read the file.
    #[error("the file cannot be read completely")]
    Io(#[from] std::io::Error),

    /// A damaged safetensors file.
    #[error("the safetensors file is damaged")]
    Safetensors {
        /// Message of the safetensors reader.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A tensor of a type that no weight is computed from here: floats of 8 bits, complex, sparse
    /// or quantised numbers, and what is no type of the format.
    #[error(
        "type of {tensor}: got {found}, which is not supported; expected F64, F32, F16 or BF16"
    )]
    Type {
        /// Its name.
        tensor: String,
        /// Its type.
        found: String,
    },

    /// libtorch refused a tensor that passed every check.
    #[error("libtorch refused {tensor}")]
    Tensor {
        /// Its name in the state dict.
        tensor: String,
        /// libtorch's message.
        source: TchError,
    },

    /// A damaged zip archive, or one with features that torch does not use.
    #[error("the zip archive is damaged in {entry}")]
    Archive {
        /// The entry, or "the directory".
        entry: String,
        /// Message of the zip reader.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// An entry that every torch archive has, or that a tensor refers to, is missing.
    #[error("entry {entry} of the archive: expected one, got none")]
    EntryMissing {
        /// Its name.
        entry: String,
    },

    /// A file of big-endian numbers.
    #[error("byte order: got {found:?}, expected \"little\"; save it on a little-endian machine")]
    ByteOrder {
        /// Byte order according to the archive.
        found: String,
    },

    /// An entry that claims more bytes than weights in a file of this length have.
    #[error("length of {what}: got {actual} bytes, expected at most {limit}")]
    TooLarge {
        /// The entry.
        what: String,
        /// Bytes that are allowed.
        limit: u64,
        /// Bytes that it claims.
        actual: u64,
    },

    /// More entries or tensors than any checkpoint has.
    #[error("{what}: got {actual}, expected at most {limit}")]
    TooMany {
        /// What is counted.
        what: String,
        /// Number that is allowed.
        limit: u64,
        /// Number that is found or claimed.
        actual: u64,
    },

    /// A pickle opcode that `torch.save` does not write.
    #[error(
        "opcode at byte {offset} of the pickle: got 0x{opcode:02x}, expected one that torch.save \
         writes"
    )]
    Opcode {
        /// The opcode.
        opcode: u8,
        /// Position in the pickle, in bytes.
        offset: usize,
    },

    /// A malformed pickle.
    #[error("byte {offset} of the pickle: got {found}, expected {expected}")]
    Pickle {
        /// Position in the pickle, in bytes.
        offset: usize,
        /// Valid content.
        expected: &'static str,
        /// Content found.
        found: String,
    },

    /// A Python class or function in the state dict. It was not executed.
    #[error(
        "{entry}: got {global}, expected tensors; it was not executed; save model.state_dict() \
         alone"
    )]
    ForeignGlobal {
        /// The entry of the state dict.
        entry: String,
        /// Module and name of the class or function, such as `os.system`.
        global: String,
    },

    /// No state dict under the keys that training scripts use.
    #[error(
        "state dict: got {}, expected tensors, or a dict of tensors under one \
         of {}; name its key by the option entry",
        dict(found), looked_for.join(", ")
    )]
    StateDictMissing {
        /// The keys that were looked for.
        looked_for: Vec<&'static str>,
        /// The first keys there are, at most twelve.
        found: Vec<String>,
    },

    /// The option `entry` names no dict of the checkpoint.
    #[error(
        "option entry: got {entry}, {}, expected the key of a dict of tensors; the keys of the \
         checkpoint: {}",
        if found.contains(entry) { "which holds no tensors" } else { "which is not there" },
        found.join(", ")
    )]
    EntryUnknown {
        /// The option's value.
        entry: String,
        /// The first keys there are, at most twelve.
        found: Vec<String>,
    },

    /// The option `entry` for a file without entries.
    #[error(
        "option entry: got {entry}, expected none: the file is a single set of tensors; leave the \
         option out"
    )]
    EntryUnused {
        /// The option's value.
        entry: String,
    },

    /// A value that is not a tensor, or not a dict.
    #[error("{entry}: got {found}, expected {expected}")]
    Entry {
        /// The entry of the state dict.
        entry: String,
        /// Valid content.
        expected: &'static str,
        /// Content found.
        found: String,
    },

    /// A tensor with an invalid shape, strides or offset.
    #[error(
        "layout of {tensor}: got shape {shape:?}, strides {strides:?} and offset {offset}, \
         expected {expected}"
    )]
    Layout {
        /// Its name.
        tensor: String,
        /// Valid layout.
        expected: &'static str,
        /// Its shape.
        shape: Vec<i64>,
        /// Its strides.
        strides: Vec<i64>,
        /// Index of its first element in the storage.
        offset: i64,
    },

    /// A tensor that reaches beyond its storage.
    #[error("storage {storage} of {tensor}: got {actual} elements, expected at least {needed}")]
    Storage {
        /// Its name.
        tensor: String,
        /// Key of the storage in the archive.
        storage: String,
        /// One more than the last element used, or the length according to the pickle.
        needed: u64,
        /// Elements in the archive.
        actual: u64,
    },
}
