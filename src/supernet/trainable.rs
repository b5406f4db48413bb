//! Which variables of the network are learned: as it was built, or as the user has set since.

use super::gating::is_learned;
use super::{Supernet, Weights};
use crate::models::Architecture;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// Returns the names of the variables that are learned.
pub(super) fn learned(variables: &Weights) -> BTreeSet<String> {
    let own = variables.iter().filter(|(_, own)| is_learned(own));
    own.map(|(name, _)| name.clone()).collect()
}

/// Sets whether variables of a network are learned as variables of the same names are.
pub(super) fn carry_over(from: &Weights, to: &Weights) -> Result<()> {
    for (name, own) in to {
        if let Some(former) = from.get(name).map(Tensor::requires_grad) {
            set(own, former)?;
        }
    }
    Ok(())
}

fn set(variable: &Tensor, learned: bool) -> Result<()> {
    if variable.requires_grad() != learned {
        let _ = variable.f_set_requires_grad(learned)?;
    }
    Ok(())
}

impl<A: Architecture> Supernet<A> {
    /// Returns the variables that are learned and were built otherwise (`true`), or the reverse (`false`), by name.
    pub(crate) fn set_since_built(&self) -> BTreeMap<String, bool> {
        let now = self.variables.iter().map(|(name, own)| (name, is_learned(own)));
        let changed = now.filter(|(name, learned)| self.built.contains(*name) != *learned);
        changed.map(|(name, learned)| (name.clone(), learned)).collect()
    }

    /// Sets whether variables are learned, by name.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a name of no variable; [`Error::Torch`] for a variable of integers.
    pub(crate) fn set_learned(&mut self, learned: &BTreeMap<String, bool>) -> Result<()> {
        for (name, learned) in learned {
            let known = || Error::unknown("variable", name, self.variables.keys());
            set(self.variables.get(name).ok_or_else(known)?, *learned)?;
        }
        Ok(())
    }
}
