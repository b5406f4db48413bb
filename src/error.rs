//! One typed error for the whole crate.

mod artifact;
mod checkpoint;
mod decode;
mod fault;
mod import;
mod raise;

pub use artifact::ArtifactError;
pub use checkpoint::CheckpointError;
pub use decode::DecodeError;
pub use fault::{Advice, Fault, Suspect};
pub use import::ImportError;
pub(crate) use raise::{expect_shape, During};

use std::path::PathBuf;
use tch::TchError;

/// Everything that can go wrong, with the culprit named and both values given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused an operation; `source` has its own words.
    #[error("libtorch failed during {operation}")]
    Torch {
        /// What the crate was doing.
        operation: String,
        /// libtorch's message.
        source: TchError,
    },

    /// A value lies outside what the method allows.
    #[error("{name} is {actual}, expected {expected}")]
    Invalid {
        /// The option, argument or quantity.
        name: String,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        actual: String,
    },

    /// Candidate sizes of a dimension that no search can use.
    #[error("candidate sizes {actual:?} of {name}: expected {expected}")]
    Candidates {
        /// The axis of the candidates: units, heads or channels.
        name: String,
        /// What would have been accepted.
        expected: String,
        /// The candidates given.
        actual: Vec<i64>,
    },

    /// A tensor whose shape does not fit.
    #[error("{operation}: {name} has shape {actual:?}, expected {expected:?}")]
    Shape {
        /// What the crate was doing.
        operation: &'static str,
        /// The tensor.
        name: String,
        /// The shape that fits.
        expected: Vec<i64>,
        /// The shape found.
        actual: Vec<i64>,
    },

    /// A NaN or an infinity where only finite numbers make sense.
    #[error("{name} of {dimension} holds a NaN or an infinity")]
    NonFinite {
        /// The tensor: score, alpha, loss or gradient.
        name: String,
        /// The dimension or variable it belongs to.
        dimension: String,
    },

    /// Losses or gradients of too many steps in a row were NaN or infinite.
    #[error("training diverged: at step {step}, {in_a_row} steps in a row were not finite")]
    Diverged {
        /// The step.
        step: u64,
        /// Steps in a row, up to this one.
        in_a_row: u64,
    },

    /// A binding names a variable the model does not have.
    #[error("dimension {dimension} binds {variable}, which the model does not have")]
    UnknownVariable {
        /// The dimension that declares the binding.
        dimension: String,
        /// The name it asks for.
        variable: String,
    },

    /// A binding whose axis cannot hold its units.
    #[error(
        "dimension {dimension} binds axis {axis} of {variable}, which has length {actual}, expected {expected}"
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

    /// Two bindings claim the same axis of one variable.
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

    /// Something is named that is not there.
    #[error("there is no {kind} named {name}; there is {known}")]
    Unknown {
        /// dimension, size or variable.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are, or the first of many.
        known: String,
    },

    /// A budget that no subnet of the space can meet, or that the dense network already meets.
    #[error(
        "a budget of {budget} {metric} cannot be met: this space reaches from {least} to {most}"
    )]
    Infeasible {
        /// MACs or parameters.
        metric: &'static str,
        /// The budget asked for.
        budget: f64,
        /// Cost of the cheapest choice there is.
        least: f64,
        /// Cost of the dearest.
        most: f64,
    },

    /// Budgets that can be kept one by one, but not together.
    #[error("no choice of sizes was found that keeps {budgets} together")]
    Conflicting {
        /// The budgets.
        budgets: String,
    },

    /// The model cannot do what was asked of it.
    #[error("{model} does not support {operation}")]
    Unsupported {
        /// The model.
        model: String,
        /// What was asked.
        operation: &'static str,
    },

    /// A component other than the one needed: a search resumes with the components it began with.
    #[error("component {component} is {actual}, expected {expected}")]
    Component {
        /// importance, bi_mask, one_hot, pmim or teacher.
        component: &'static str,
        /// Id of the component needed.
        expected: String,
        /// Id of the component given.
        actual: String,
    },

    /// What was made does not compute what it was made from.
    #[error(
        "{what} differs from {reference} by {difference:e}, allowed {allowed:e}{}",
        .begins.as_ref().map(|part| format!("; it begins in {part}")).unwrap_or_default()
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
    },

    /// A search space that is not that of its model, as [`crate::check::self_check`] found.
    #[error("wrong declaration: {}", faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))]
    Declaration {
        /// Everything found.
        faults: Vec<Fault>,
    },

    /// A device that was asked for and is not there.
    #[error("device {device} is not available: {reason}")]
    Device {
        /// The device as the user wrote it.
        device: String,
        /// Why, and what would help.
        reason: String,
    },

    /// A file or folder could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// read, write, create, rename…
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// A file that is there and readable, but not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, with expected and found.
        reason: String,
    },

    /// A checkpoint of a search that cannot be gone on from; `source` says why.
    #[error("cannot go on from {}", path.display())]
    Resume {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What is wrong with it, or what failed on the way.
        source: Box<Error>,
    },

    /// A folder with a subnet that cannot be used; `source` says why.
    #[error("cannot use the artifact {}", path.display())]
    Artifact {
        /// The file in the folder.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ArtifactError>,
    },

    /// A checkpoint file that cannot be read; `source` says why.
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
        "corrupt images: got {}, expected at most {limit}; replace them or raise the limit: {}",
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
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
