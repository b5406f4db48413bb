//! A subnet as a search hands it over: with its verification and provenance.

use super::{Differences, Export, Provenance, Subnet, Verification};
use crate::models::Architecture;
use crate::Result;
use std::ops::Deref;
use std::path::Path;
use tch::Tensor;

/// A verified subnet, ready to be saved.
#[derive(Debug)]
pub struct Extracted<A: Architecture> {
    /// The subnet.
    pub subnet: Subnet<A>,
    /// Measured difference between the subnet and the masked network.
    pub verification: Verification,
    /// Where the subnet came from.
    pub provenance: Provenance,
    /// Images it was verified on, `[B, C, H, W]`; exported files are verified on them, too.
    pub images: Tensor,
}

impl<A: Architecture> Deref for Extracted<A> {
    type Target = Subnet<A>;

    fn deref(&self) -> &Subnet<A> {
        &self.subnet
    }
}

impl<A: Architecture> Extracted<A> {
    /// Writes the subnet into `folder`, which appears complete or not at all, and returns the
    /// differences measured: of extraction, of rounding, of exported files.
    ///
    /// # Errors
    /// [`Verification`](crate::Error::Verification) if the verification has not passed, or an
    /// exported file differs; [`Unsupported`](crate::Error::Unsupported) if the family cannot be
    /// exported; [`NonFinite`](crate::Error::NonFinite) for a weight that overflows;
    /// [`Io`](crate::Error::Io) or [`File`](crate::Error::File) if the folder cannot be written.
    /// Nothing is written then.
    pub fn save(&self, folder: impl AsRef<Path>, export: &Export) -> Result<Differences> {
        self.write(folder.as_ref(), export)
    }
}
