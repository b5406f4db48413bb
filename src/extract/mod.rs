//! How the subnet is cut out for real: a plain small network, verified, on disk.
//!
//! [`FoldingExtractor`] makes a [`Subnet`] of a decided supernet, [`verify`] measures that it
//! computes the same, and [`Subnet::save`] writes it as a folder that needs nothing of this crate
//! (docs/artifact.md).

mod artifact;
mod into;
mod onnx;
mod precision;
mod subnet;
mod teacher;
mod torchscript;
mod verify;

pub use artifact::{Description, Differences, Export, LatencyComparison, Provenance};
pub use into::{extract_into, ExtractInto};
pub use precision::Precision;
pub use subnet::{FoldingExtractor, Subnet, SubnetExtractor};
pub use teacher::SubnetTeacher;
pub use verify::{verify, verify_against, Verification};

/// The examples of the document compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/artifact.md")]
struct ArtifactDocument;
