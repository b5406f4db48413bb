//! What became of every tensor.

use super::Naming;
use crate::error::ImportError;
use crate::tensors::Weights;
use serde::{Deserialize, Serialize};

/// Weights for a network, and where they came from.
#[derive(Debug)]
pub struct Import {
    /// One tensor for each variable of the network, under timm's names: f32, contiguous, on CPU.
    pub weights: Weights,
    /// What became of the checkpoint's tensors.
    pub report: ImportReport,
}

/// What became of every tensor of the checkpoint, and of every variable of the network.
///
/// A variable stands in one of `loaded`, `resized`, `replaced` and `missing`, under timm's name.
/// A single row of the position table is written `pos_embed[:, 1]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// The names the checkpoint uses.
    pub naming: Naming,
    /// Taken as they are (but for the element type).
    pub loaded: Vec<String>,
    /// In the checkpoint, not in the network; under the checkpoint's names.
    pub skipped: Vec<String>,
    /// In the checkpoint, and computed by the network itself: nothing is lost. The checkpoint's names.
    pub computed: Vec<String>,
    /// Adapted to another resolution, other prefix tokens or another number of channels.
    pub resized: Vec<Resized>,
    /// Fresh, because the checkpoint's is for another number of classes.
    pub replaced: Vec<Resized>,
    /// Fresh, because the checkpoint has none.
    pub missing: Vec<String>,
}

/// A variable whose shape in the checkpoint is another one than in the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resized {
    /// The variable.
    pub name: String,
    /// Shape in the checkpoint.
    pub from: Vec<i64>,
    /// Shape in the network.
    pub to: Vec<i64>,
}

impl ImportReport {
    pub(super) fn new(naming: Naming, skipped: Vec<String>, computed: Vec<String>) -> Self {
        let (loaded, resized, replaced, missing) = (vec![], vec![], vec![], vec![]);
        Self { naming, loaded, skipped, computed, resized, replaced, missing }
    }

    /// Whether every tensor of the checkpoint was taken as it is, and every variable got one.
    pub fn is_exact(&self) -> bool {
        self.first_inexact().is_none()
    }

    pub(super) fn expect_exact(&self) -> Result<(), ImportError> {
        match self.first_inexact() {
            None => Ok(()),
            Some((name, fate)) => Err(ImportError::Strict { name: name.into(), fate }),
        }
    }

    fn first_inexact(&self) -> Option<(&str, &'static str)> {
        let skipped = self.skipped.iter().map(|name| (name.as_str(), "skipped"));
        let resized = self.resized.iter().map(|entry| (entry.name.as_str(), "resized"));
        let replaced = self.replaced.iter().map(|entry| (entry.name.as_str(), "replaced"));
        let missing = self.missing.iter().map(|name| (name.as_str(), "missing"));
        skipped.chain(resized).chain(replaced).chain(missing).next()
    }
}
