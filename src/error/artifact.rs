//! Why an artifact cannot be loaded.

/// What is wrong with an artifact. [`Error::Artifact`](super::Error::Artifact) has the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// Not JSON, or not with the fields it should have.
    #[error("damaged, or not the JSON it should be")]
    Json(#[from] serde_json::Error),

    /// Something else than an artifact of this crate, or one of another family.
    #[error("{field} is {found}, expected {expected:?}")]
    Foreign {
        /// format or family.
        field: &'static str,
        /// What this crate writes.
        expected: &'static str,
        /// What is there.
        found: String,
    },

    /// Of a version this crate does not know.
    #[error("version is {found}, this crate reads version {supported}: use a newer once-for-both")]
    Version {
        /// The version this crate reads.
        supported: u32,
        /// What is there.
        found: String,
    },

    /// A description that no network can be built from.
    #[error("describes a network that cannot be built")]
    Architecture {
        /// What is wrong with it.
        source: Box<super::Error>,
    },

    /// A cost that is not that of the described network.
    #[error("states {stated} {metric}, but the network it describes has {computed}")]
    Cost {
        /// MACs or parameters.
        metric: &'static str,
        /// As written.
        stated: f64,
        /// As computed from the description.
        computed: f64,
    },

    /// A damaged safetensors header.
    #[error("damaged as a safetensors file: {found}, expected {expected}")]
    Header {
        /// What would have made sense.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A file that is longer or shorter than its tensors.
    #[error("is {actual} bytes long, its tensors need {expected}")]
    Length {
        /// Header and tensors.
        expected: u64,
        /// Length of the file.
        actual: u64,
    },

    /// A file that is not the one described, though it looks like it: damaged or exchanged.
    #[error("has the CRC-32 {actual:08x}, the description says {expected:08x}")]
    Checksum {
        /// As described.
        expected: u32,
        /// Of the file.
        actual: u32,
    },

    /// A weight the described network has and the file has not.
    #[error("has no tensor {tensor}, which the described network has")]
    Missing {
        /// Its name.
        tensor: String,
    },

    /// A tensor the described network has no place for.
    #[error("has a tensor {tensor}, which the described network has not")]
    Unexpected {
        /// Its name.
        tensor: String,
    },

    /// A weight of another shape than described.
    #[error("{tensor} has shape {actual:?}, the described network expects {expected:?}")]
    Shape {
        /// Its name.
        tensor: String,
        /// As described.
        expected: Vec<i64>,
        /// As stored.
        actual: Vec<usize>,
    },

    /// A weight of another type than described.
    #[error("{tensor} is stored as {actual}, the description says {expected}")]
    Precision {
        /// Its name.
        tensor: String,
        /// As described.
        expected: &'static str,
        /// As stored.
        actual: String,
    },

    /// Measured differences that should not have been let through.
    #[error("records a difference of {difference:e} to the masked network, allowed {allowed:e}")]
    Unverified {
        /// Largest absolute difference of a logit.
        difference: f64,
        /// What was allowed.
        allowed: f64,
    },
}
