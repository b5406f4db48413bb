//! Verified subnets with their provenance, as [`Search::extract`](crate::search::Search::extract)
//! returns them.

use super::{Differences, Export, Provenance, Subnet, Verification};
use crate::models::Architecture;
use crate::Result;
use std::ops::Deref;
use std::path::Path;
use tch::Tensor;

/// Subnet with its verification and provenance, ready to be saved.
///
/// It dereferences to [`Subnet`]. To save a network that was not searched, construct the struct
/// with a verification by [`verify_against`](super::verify_against).
#[derive(Debug)]
pub struct Extracted<A: Architecture> {
    /// The subnet.
    pub subnet: Subnet<A>,
    /// Measured difference of the logits of the subnet and the masked network.
    pub verification: Verification,
    /// Search that the subnet was extracted from.
    pub provenance: Provenance,
    /// Calibration batch of the verification, `[B, C, H, W]`; exported files are verified on it, too.
    pub images: Tensor,
}

impl<A: Architecture> Deref for Extracted<A> {
    type Target = Subnet<A>;

    fn deref(&self) -> &Subnet<A> {
        &self.subnet
    }
}

impl<A: Architecture> Extracted<A> {
    /// Writes the artifact `folder` and returns the measured differences of logits: of extraction, of
    /// rounding, of export.
    ///
    /// The folder is written under a temporary name and exchanged with an artifact that is there, so
    /// that the former or the new one is complete at every moment. Files that the user put into it
    /// are kept. Where `folder` is a symbolic link, the artifact that it leads to is replaced.
    ///
    /// # Errors
    /// [`Verification`](crate::Error::Verification) if the verification has not passed, or the logits
    /// of an exported file differ; [`Unsupported`](crate::Error::Unsupported) if an export is asked of
    /// a family without [`graph`](Architecture::graph); [`NonFinite`](crate::Error::NonFinite) for a
    /// weight that is not finite in the precision; [`Invalid`](crate::Error::Invalid) for a precision in which
    /// the logits of the first images are not finite, for a number of verification, provenance, latency or cost
    /// that is not, for an architecture that cannot be read back from its JSON, and for images that the network does not
    /// take; [`Torch`](crate::Error::Torch) if the network fails in the precision, unless it mixes types; [`Io`](crate::Error::Io) or
    /// [`File`](crate::Error::File) if the folder cannot be written;
    /// [`FolderError::Foreign`](crate::error::FolderError::Foreign) if something else than an artifact
    /// or an empty folder is there. Nothing is written then.
    pub fn save(&self, folder: impl AsRef<Path>, export: &Export) -> Result<Differences> {
        self.write(folder.as_ref(), export, &|_, error| Err(error))
    }
}
