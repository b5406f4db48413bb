//! The result of an import, with the fate of every tensor.

use super::named::Named;
use super::{Naming, Source};
use crate::error::ImportError;
use crate::tensors::Weights;
use serde::{Deserialize, Serialize};

/// Imported weights, and a report of where they came from.
#[derive(Debug)]
pub struct Import {
    /// One tensor for each variable of the network, under the network's names: f32, contiguous, on
    /// the CPU.
    pub weights: Weights,
    /// Fate of every tensor and variable.
    pub report: ImportReport,
}

/// Fate of every tensor of the checkpoint and of every variable of the network.
///
/// Each variable is listed in one of `loaded`, `resized`, `replaced`, `missing` and `computed`, under the
/// network's name. A single row of a position table is written `pos_embed[:, 1]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// Container and entry of the checkpoint; `None` for tensors that were in memory.
    #[serde(default)]
    pub source: Option<Source>,
    /// Naming convention of the checkpoint.
    pub naming: Naming,
    /// Prefix that was removed from its names, such as `module.`; empty if none.
    #[serde(default)]
    pub prefix: String,
    /// Variables with the checkpoint's values, converted to f32.
    pub loaded: Vec<String>,
    /// Tensors of the checkpoint that are left out although the network that was saved uses them, or by an option, under
    /// the checkpoint's names.
    pub skipped: Vec<String>,
    /// Tensors of the checkpoint that the network's function does not use, such as a mask token, under the checkpoint's
    /// names. Nothing is lost.
    #[serde(default)]
    pub unused: Vec<String>,
    /// Constants that the network computes itself, under the checkpoint's names, or where the
    /// checkpoint does not have them, under the network's; the counter of an averaged model; and the head of
    /// the option [`identity_head`](super::ImportOptions::identity_head). Nothing is lost.
    pub computed: Vec<String>,
    /// Variables adapted to another resolution, other prefix tokens or other input channels.
    pub resized: Vec<Resized>,
    /// Heads initialised afresh, because the checkpoint has another number of classes.
    pub replaced: Vec<Resized>,
    /// Variables initialised afresh, because the checkpoint has no tensor for them.
    pub missing: Vec<String>,
    /// Properties of the network that no tensor shows, with the values that the configuration has.
    #[serde(default)]
    pub assumed: Vec<Assumption>,
}

/// A property of a network that no tensor of a checkpoint shows: with another value, every tensor
/// fits, and the logits are others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assumption {
    /// The property, such as `heads`.
    pub property: String,
    /// The value that the network has.
    pub value: String,
    /// Where it is from, such as `config.json`; `None` for the configuration that was given, or for a
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Assumption {
    /// Returns the assumption that a property has this value.
    pub fn new(property: impl Into<String>, value: impl Into<String>) -> Self {
        Self { property: property.into(), value: value.into(), source: None }
    }
}

/// A variable whose shape in the checkpoint differs from that in the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resized {
    /// Name of the variable.
    pub name: String,
    /// Shape in the checkpoint.
    pub from: Vec<i64>,
    /// Shape in the network.
    pub to: Vec<i64>,
}

impl ImportReport {
    pub(super) fn new(named: &Named, assumed: Vec<Assumption>) -> Self {
        Self {
            source: None,
            naming: named.naming,
            prefix: named.prefix.clone(),
            loaded: vec![],
            skipped: named.skipped.clone(),
            unused: named.unused.clone(),
            computed: named.computed.clone(),
            resized: vec![],
            replaced: vec![],
            missing: vec![],
            assumed,
        }
    }

    /// Returns whether every tensor was loaded, is unused or is computed, and every variable has a tensor.
    pub fn is_exact(&self) -> bool {
        self.first_inexact().is_none()
    }

    pub(super) fn expect_exact(&self) -> std::result::Result<(), ImportError> {
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
