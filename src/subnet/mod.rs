//! The subnet: extraction, verification, artifact, exports.
//!
//! [`Search::extract`](crate::search::Search::extract) does all of it: a [`SubnetExtractor`] builds a
//! plain network, a [`Subnet`], at the decided sizes; [`verify`] measures the difference of its logits
//! to those of the masked network; [`Extracted::save`] writes an artifact, a folder that other
//! programs can read without this crate (docs/artifact.md).

mod artifact;
mod extracted;
mod extractor;
mod network;
#[cfg(feature = "export")]
mod onnx;
#[cfg(feature = "export")]
mod torchscript;
mod verify;

pub use crate::precision::Precision;
pub(crate) use artifact::ARTIFACT;
#[cfg(feature = "pipeline")]
pub(crate) use artifact::{try_exports, EXPORTS};
pub use artifact::{Description, Differences, Export, LatencyComparison, Provenance};
pub use extracted::Extracted;
pub(crate) use extractor::extract_decided;
pub use extractor::{ExtractInto, FoldingExtractor, SubnetExtractor, TranslatingExtractor};
pub use network::{Subnet, SubnetTeacher};
pub use verify::{verify, verify_against, Verification};

/// Runs the examples of docs/artifact.md as doctests.
#[cfg(all(doctest, feature = "export"))]
#[doc = include_str!("../../docs/artifact.md")]
struct ArtifactDocument;
