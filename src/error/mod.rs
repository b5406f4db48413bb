//! One typed error for the whole crate.

mod artifact;
mod checkpoint;
mod decode;
mod distributed;
pub(crate) mod fault;
mod folder;
mod hub;
mod import;
mod latency;
#[cfg(feature = "pipeline")]
mod pipeline;
mod raise;
mod shard;

pub use artifact::ArtifactError;
pub use checkpoint::CheckpointError;
pub use decode::DecodeError;
pub use distributed::DistributedError;
pub use fault::{Advice, Fault, Suspect};
pub use folder::FolderError;
pub use hub::HubError;
pub use import::ImportError;
pub use latency::LatencyError;
#[cfg(feature = "pipeline")]
pub use pipeline::PipelineError;
pub(crate) use raise::{expect_shape, in_words, plain, During};
pub use shard::ShardError;

use std::path::PathBuf;
use tch::TchError;

/// Error of this crate: names the culprit, and gives the value found and the value expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused an operation; `source` holds its message.
    #[error("libtorch failed during {operation}")]
    Torch {
        /// The operation.
        operation: String,
        /// libtorch's message.
        source: TchError,
    },

    /// A value out of range.
    #[error("{name}: got {actual}, expected {expected}")]
    Invalid {
        /// The option, argument or quantity.
        name: String,
        /// What is allowed.
        expected: String,
        /// The value given.
        actual: String,
    },

    /// Candidate sizes that are not ascending, or not within the dimension.
    #[error("candidate sizes of {name}: got {actual:?}, expected {expected}")]
    Candidates {
        /// The axis of the candidates: units, heads or channels.
        name: String,
        /// What is allowed.
        expected: String,
        /// The candidates given.
        actual: Vec<i64>,
    },

    /// A tensor of the wrong shape.
    #[error("{operation}: shape of {name}: got {actual:?}, expected {expected:?}")]
    Shape {
        /// The operation.
        operation: &'static str,
        /// The tensor.
        name: String,
        /// The shape that fits.
        expected: Vec<i64>,
        /// The shape found.
        actual: Vec<i64>,
    },

    /// A tensor with a NaN or an infinity.
    #[error("{name} of {dimension} holds a NaN or an infinity")]
    NonFinite {
        /// The tensor: score, alpha, loss or gradient.
        name: String,
        /// The dimension or variable it belongs to.
        dimension: String,
    },

    /// Training that diverged: the losses or gradients of too many steps in a row were NaN or
    /// infinite, or the logits of the trained network are.
    #[error(
        "training diverged: at step {step}, {} not finite{}; lower the learning rate, or start from \
         an earlier checkpoint",
        raise::not_finite(*in_a_row), raise::first_of(first)
    )]
    Diverged {
        /// The step.
        step: u64,
        /// Skipped steps in a row, up to this one; 0 if only the logits are not finite.
        in_a_row: u64,
        /// Names of the losses and gradients that were not finite at the first of these steps;
        /// empty if unknown, after a resume.
        first: Vec<String>,
    },

    /// A binding of a variable that the model does not have.
    #[error("binding of dimension {dimension}: the model has no variable {variable}")]
    UnknownVariable {
        /// The dimension that declares the binding.
        dimension: String,
        /// The name it asks for.
        variable: String,
    },

    /// A binding of an axis that has not the length of the dimension.
    #[error(
        "binding of dimension {dimension}: length of axis {axis} of {variable}: got {actual}, expected {expected}"
    )]
    BindingAxis {
        /// The dimension that declares the binding.
        dimension: String,
        /// The variable bound.
        variable: String,
        /// The axis bound.
        axis: usize,
        /// outer × units × inner.
        expected: i64,
        /// The variable's length along the axis (0 where it has no such axis).
        actual: i64,
    },

    /// Two bindings of the same axis of one variable.
    #[error("axis {axis} of {variable} is bound by {first} and by {second}")]
    BoundTwice {
        /// The variable bound.
        variable: String,
        /// The axis bound.
        axis: usize,
        /// The dimension that came first.
        first: String,
        /// The dimension that came second.
        second: String,
    },

    /// No entry of a name that is needed.
    #[error("{kind} {name}: got none, expected one of this name")]
    Missing {
        /// weight, tensor or variable.
        kind: &'static str,
        /// The name that is needed.
        name: String,
    },

    /// An unknown name.
    #[error("unknown {kind} {name}: known are {known}")]
    Unknown {
        /// dimension, size or variable.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are, or the first of many.
        known: String,
    },

    /// A budget below the cheapest subnet of the search space, or above the dense network.
    #[error(
        "budget: got {budget} {metric}, expected within {least} to {most}, the range of this search space"
    )]
    Infeasible {
        /// MACs, parameters or milliseconds.
        metric: &'static str,
        /// The budget asked for.
        budget: f64,
        /// Cost of the cheapest choice there is.
        least: f64,
        /// Cost of the dearest.
        most: f64,
    },

    /// Budgets that can be met one by one, but not together.
    #[error("budgets: got {budgets}, which no choice of sizes meets together; raise one of them")]
    Conflicting {
        /// The budgets.
        budgets: String,
    },

    /// An operation that the model does not support.
    #[error("{model} does not support {operation}")]
    Unsupported {
        /// The model.
        model: String,
        /// What was asked.
        operation: &'static str,
    },

    /// A component other than the one needed. A search resumes with the components it began with.
    #[error("component {component}: got {actual}, expected {expected}")]
    Component {
        /// importance, bi_mask, one_hot, pmim, task or teacher.
        component: &'static str,
        /// Id of the component needed.
        expected: String,
        /// Id of the component given.
        actual: String,
    },

    /// A subnet or exported file whose logits differ from those of its source.
    #[error(
        "{what} differs from {reference} by {difference:e}, allowed {allowed:e}{}{}",
        .begins.as_ref().map(|part| format!("; it begins in {part}")).unwrap_or_default(),
        .advice.map(|advice| format!("; {advice}")).unwrap_or_default()
    )]
    Verification {
        /// The extracted network, or a file it was exported to.
        what: &'static str,
        /// What it should compute.
        reference: &'static str,
        /// Largest absolute difference of a logit.
        difference: f64,
        /// What was allowed: tolerance × scale of the logits.
        allowed: f64,
        /// The first part of the network whose output differs by more than its share, where the
        /// model can be [traced](crate::models::Network::trace).
        begins: Option<String>,
        /// What to do, where a likely cause is known.
        advice: Option<&'static str>,
    },

    /// A search space that does not fit its model, with everything that
    /// [`crate::check::self_check`] found.
    #[error("wrong declaration: {}", fault::lines(faults))]
    Declaration {
        /// Everything found.
        faults: Vec<Fault>,
    },

    /// A device that is not available.
    #[error("device {device} is not available: {reason}")]
    Device {
        /// The device as the user wrote it.
        device: String,
        /// Why, and what would help.
        reason: String,
    },

    /// A file or folder that cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// read, write, create, rename…
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// A readable file with wrong content.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, with expected and found.
        reason: String,
    },

    /// A file or folder that is not written, because it is not this crate's or in use.
    #[error(transparent)]
    Folder(#[from] FolderError),

    /// A file with another checksum: its bytes changed after it was written.
    #[error(
        "{}: CRC-32: got {actual:08X}, expected {expected:08X} as in checksums.sfv; copy the folder \
         again, or use another one",
        path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Checksum when it was written.
        expected: u32,
        /// Checksum of the file.
        actual: u32,
    },

    /// A checkpoint that cannot be resumed from; `source` is the reason.
    #[error("cannot resume from {}", path.display())]
    Resume {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What is wrong with it, or what failed on the way.
        source: Box<Error>,
    },

    /// An artifact that cannot be used; `source` is the reason.
    #[error("cannot use the artifact {}", path.display())]
    Artifact {
        /// The file in the folder.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ArtifactError>,
    },

    /// A checkpoint file of weights that cannot be read; `source` is the reason.
    #[error("cannot read the checkpoint {}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<CheckpointError>,
    },

    /// Weights of a checkpoint that do not fit the network.
    #[error(transparent)]
    Import(#[from] ImportError),

    /// Weights that cannot be fetched by their name on the hub; `source` is the reason.
    #[error("cannot fetch {name}")]
    Hub {
        /// The name, as the user wrote it.
        name: String,
        /// Why not.
        source: Box<HubError>,
    },

    /// A latency model that is missing, or does not hold here.
    #[error(transparent)]
    Latency(#[from] LatencyError),

    /// A run that cannot start or resume.
    #[cfg(feature = "pipeline")]
    #[error(transparent)]
    Pipeline(#[from] PipelineError),

    /// A group of processes that train together, or one of them, failed.
    #[error(transparent)]
    Distributed(#[from] DistributedError),

    /// A folder of a data set without classes or images.
    #[error("data set folder {}: got none, expected {expected}", path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
        /// What the folder should contain.
        expected: &'static str,
    },

    /// An image of a data set that cannot be decoded; `source` has the reason.
    #[error("cannot decode {name}")]
    Image {
        /// Name of the image, usually its path.
        name: String,
        /// The reason.
        source: DecodeError,
    },

    /// More corrupt images than the loader may skip.
    #[error(
        "corrupt images: got {}, expected at most {limit}; see what is wrong with each by \
         inspect_images (`deit_s inspect`), replace them under the same names (shards that are written anew need a new run), or raise the limit (OnCorrupt::Skip; of a run: \
         data.corrupt_images): {}",
        names.len(), names.join(", ")
    )]
    CorruptImages {
        /// Largest accepted number.
        limit: usize,
        /// Names of the corrupt images.
        names: Vec<String>,
    },

    /// A worker thread of a loader panicked or could not be started.
    #[error("loader worker: the batch of step {step} failed: {reason}")]
    Worker {
        /// Step of the batch.
        step: u64,
        /// Panic message, or the reason why the thread did not start.
        reason: String,
    },

    /// An IDX file that cannot be used: a boxed `data::idx::IdxError`.
    #[error(transparent)]
    Idx(Box<dyn std::error::Error + Send + Sync>),

    /// A tar shard of a data set that cannot be used; `source` has the reason.
    #[error("cannot use the shard {}", path.display())]
    Shard {
        /// The shard.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ShardError>,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
