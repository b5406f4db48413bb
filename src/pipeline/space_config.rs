//! Section `[space]`: what a search may change besides sizes.

use crate::models::Architecture;
use crate::space::SearchSpace;
use crate::Result;
use serde::{Deserialize, Serialize};

/// Section `[space]`: what a search may change besides sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpaceConfig {
    /// Whether attentions and MLPs may be removed ([`SearchSpace::removable_branches`]).
    pub depth: bool,
}

impl SpaceConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the search space of a network.
    ///
    /// # Errors
    /// Those of [`Architecture::space`].
    pub fn of<A: Architecture>(&self, dense: &A) -> Result<SearchSpace> {
        let space = dense.space()?;
        Ok(if self.depth { space.removable_branches() } else { space })
    }
}
