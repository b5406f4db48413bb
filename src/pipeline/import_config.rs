//! Options of an import, as `config.toml` has them.

use crate::import::ImportOptions;
use serde::{Deserialize, Serialize};

/// How a checkpoint of another library is read, as in [`ImportOptions`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportConfig {
    /// Keys that lead to the state dict, joined by dots; `None`: an EMA if there is one.
    pub entry: Option<String>,
    /// Prefix of the network's names; `None`: the one that all names share.
    pub prefix: Option<String>,
    /// Prefixes of names that are left out.
    pub skip: Vec<String>,
}

impl ImportConfig {
    /// Whether nothing is set.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the options of an import with this seed of fresh values.
    pub fn options(&self, seed: u64) -> ImportOptions {
        let Self { entry, prefix, skip } = self.clone();
        ImportOptions { seed, entry, prefix, skip, ..ImportOptions::default() }
    }
}
