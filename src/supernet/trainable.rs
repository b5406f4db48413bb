//! Which variables of the network are learned: as it was built, or as the user has set since.
//!
//! Freezing a variable concerns its update alone: the gradients of the gates and the effects of units are those that
//! they would be if it were learned. So a variable with units stays in θ; another one leaves it, and has neither
//! gradient nor moments.

use super::gating::is_learned;
use super::{Supernet, Weights};
use crate::models::Architecture;
use crate::space::SearchSpace;
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

/// Frozen variables that autograd records until this value is dropped.
pub(crate) struct Recorded(Vec<Tensor>);

impl Recorded {
    /// Lets autograd record those of the variables that are frozen.
    pub(crate) fn new<'a>(variables: impl IntoIterator<Item = &'a Tensor>) -> Result<Self> {
        let mut recorded = Self(Vec::new());
        for own in variables.into_iter().filter(|own| !own.requires_grad()) {
            set(own, true)?;
            recorded.0.push(own.shallow_clone());
        }
        Ok(recorded)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        for own in &self.0 {
            // A leaf of the graph can always be frozen.
            let _ = set(own, false);
        }
    }
}

/// Variables on whose gradients the effects of pruning units depend.
#[derive(Debug)]
pub(super) struct WithUnits {
    /// Those that bi-masks multiply.
    gated: BTreeSet<String>,
    /// Those that read units, on which the effects alone depend.
    reading: BTreeSet<String>,
}

impl WithUnits {
    pub(super) fn of(space: &SearchSpace) -> Self {
        let (mut gated, mut reading) = (BTreeSet::new(), BTreeSet::new());
        for dimension in &space.dimensions {
            for own in &dimension.bindings {
                if own.role.is_gated() {
                    gated.insert(own.variable.clone());
                } else if own.reads() {
                    reading.insert(own.variable.clone());
                }
            }
        }
        Self { gated, reading }
    }

    fn contains(&self, name: &str, effects: bool) -> bool {
        self.gated.contains(name) || (effects && self.reading.contains(name))
    }
}

impl<A: Architecture> Supernet<A> {
    /// Returns the variables that are learned, and those with units that were frozen since the network was built, in
    /// order.
    pub(super) fn ever_learned(&self) -> impl Iterator<Item = &String> {
        let own = self.variables.iter();
        let ever = own.filter(|(name, own)| {
            is_learned(own) || (self.built.contains(*name) && self.with_units.contains(name, true))
        });
        ever.map(|(name, _)| name)
    }

    /// Returns the variables whose gradients a step needs, by name: those that are learned, and the
    /// [frozen](Self::frozen) ones.
    pub(crate) fn differentiated(&self, effects: bool) -> Vec<(String, Tensor)> {
        let own = self.variables.iter();
        let own = own.filter(|(name, own)| is_learned(own) || self.has_units(name, own, effects));
        own.map(|(name, own)| (name.clone(), own.shallow_clone())).collect()
    }

    /// Returns the variables that are not learned, and on whose gradients the gradients of gates depend nevertheless:
    /// gates multiply them. With the `effects` of units also those that read units.
    pub(crate) fn frozen(&self, effects: bool) -> Vec<&String> {
        let own = self.variables.iter();
        let own = own.filter(|(name, own)| !is_learned(own) && self.has_units(name, own, effects));
        own.map(|(name, _)| name).collect()
    }

    /// Returns whether the gradient of a gate, or the effect of pruning a unit, depends on that of a variable of θ.
    fn has_units(&self, name: &str, variable: &Tensor, effects: bool) -> bool {
        variable.is_floating_point()
            && self.with_units.contains(name, effects)
            && self.gating.theta().layout().get(name).is_some()
    }

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
