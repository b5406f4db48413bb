//! How the subnet is cut out for real: a plain small network, verified, on disk.
//!
//! [`FoldingExtractor`] makes a [`Subnet`] of a decided supernet, [`verify`] measures that it
//! computes the same, and [`Subnet::save`] writes it as a folder that needs nothing of this crate
//! (docs/artifact.md).

mod artifact;
mod extracted;
mod extractor;
mod network;
#[cfg(feature = "export")]
mod onnx;
mod teacher;
#[cfg(feature = "export")]
mod torchscript;
mod verify;

pub use crate::precision::Precision;
pub use artifact::{Description, Differences, Export, LatencyComparison, Provenance};
pub use extracted::Extracted;
pub(crate) use extractor::expect_decided;
pub use extractor::{ExtractInto, FoldingExtractor, SubnetExtractor, TranslatingExtractor};
pub use network::Subnet;
pub use teacher::SubnetTeacher;
pub use verify::{verify, verify_against, Verification};

/// The examples of the document compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/artifact.md")]
struct ArtifactDocument;
