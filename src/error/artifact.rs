//! Reasons why an artifact cannot be loaded.

/// Reason why an artifact cannot be loaded; [`Error::Artifact`](super::Error::Artifact) has the path
/// of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// Invalid JSON, or a field that is missing or of another type.
    #[error("contents: got invalid JSON or a wrong field, expected those of Extracted::save")]
    Json(#[from] serde_json::Error),

    /// Another format or another family.
    #[error("{field}: got {found}, expected {expected:?}")]
    Foreign {
        /// The field: `format` or `family`.
        field: &'static str,
        /// Value that is expected.
        expected: &'static str,
        /// Value in the file.
        found: String,
    },

    /// Another version of the format.
    #[error("version: got {found}, expected at most {supported}; update once-for-both")]
    Version {
        /// Newest version that this crate reads.
        supported: u32,
        /// What is there.
        found: String,
    },

    /// A configuration that no network can be built from; `source` has the option.
    #[error("architecture: got sizes that no network can be built at")]
    Architecture {
        /// The option that is out of range.
        source: Box<super::Error>,
    },

    /// MACs or parameters that differ from those of the described network.
    #[error("{metric}: got {stated}, expected {computed} as computed from the sizes")]
    Cost {
        /// MACs or parameters.
        metric: &'static str,
        /// Cost in the file.
        stated: f64,
        /// Cost computed from the sizes in the file.
        computed: f64,
    },

    /// A damaged safetensors header.
    #[error("safetensors header: got {found}, expected {expected}")]
    Header {
        /// Contents that are expected.
        expected: String,
        /// Contents of the file.
        found: String,
    },

    /// A file that is longer or shorter than its tensors.
    #[error("length: got {actual} bytes, expected {expected}; copy the file again")]
    Length {
        /// Length of header and tensors.
        expected: u64,
        /// Length of the file.
        actual: u64,
    },

    /// A `checksums.sfv` that is not as it was written, has no entry for a file of the folder, or is
    /// beside a description of the version without one.
    #[error("{reason}")]
    Checksums {
        /// What is wrong with it, with expected and found.
        reason: String,
    },

    /// A file with another checksum: its bytes changed after it was saved.
    #[error(
        "CRC-32: got {actual:08X}, expected {expected:08X} as it was saved; copy the file again"
    )]
    Checksum {
        /// Checksum in `checksums.sfv` or `config.json`.
        expected: u32,
        /// Checksum of the file.
        actual: u32,
    },

    /// A weight of the described network that the file does not have.
    #[error("tensor {tensor}: got none, expected one, because the described network has it")]
    Missing {
        /// Name of the tensor.
        tensor: String,
    },

    /// A tensor that the described network does not have.
    #[error("tensor {tensor}: got one, expected none, because the described network lacks it")]
    Unexpected {
        /// Name of the tensor.
        tensor: String,
    },

    /// A weight of another shape.
    #[error("shape of {tensor}: got {actual:?}, expected {expected:?}")]
    Shape {
        /// Name of the tensor.
        tensor: String,
        /// Shape in the described network.
        expected: Vec<i64>,
        /// Shape in the file.
        actual: Vec<usize>,
    },

    /// A weight of another type than `dtype` in `config.json`.
    #[error("type of {tensor}: got {actual}, expected {expected} as in config.json")]
    Precision {
        /// Name of the tensor.
        tensor: String,
        /// Type in `config.json`.
        expected: &'static str,
        /// Type in the file.
        actual: String,
    },

    /// A verification that has not passed.
    #[error("difference to the masked network: got {difference:e}, expected at most {allowed:e}")]
    Unverified {
        /// Largest absolute difference of a logit.
        difference: f64,
        /// Allowed difference.
        allowed: f64,
    },
}
