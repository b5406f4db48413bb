//! The weights of a supernet, in and out.

use super::{pmim_modules, Supernet, Weights};
use crate::error::expect_shape;
use crate::models::Architecture;
use crate::{Error, Result};
use tch::Tensor;

impl<A: Architecture> Supernet<A> {
    /// θ and all other variables, by name: what a checkpoint keeps.
    pub fn raw_weights(&self) -> Weights {
        let raw = |(name, leaf): (&String, &Tensor)| {
            (name.clone(), self.gating.raw(name).unwrap_or(leaf).shallow_clone())
        };
        self.variables.iter().map(raw).collect()
    }

    /// The weights of the plain model at the last materialised gates, without PMIM's: folded.
    pub fn folded_weights(&self) -> Weights {
        let own = self.reconstruction.is_some();
        let model = self.variables.iter().filter(|(name, _)| !(own && pmim_modules::owns(name)));
        model.map(|(name, leaf)| (name.clone(), leaf.shallow_clone())).collect()
    }

    /// Overwrites θ and all other variables. Names on one side only are errors, unless they
    /// belong to PMIM.
    ///
    /// # Errors
    /// [`Error::Unknown`] or [`Error::Shape`] before anything is written.
    pub fn load_weights(&mut self, weights: &Weights) -> Result<()> {
        let own = self.raw_weights();
        if let Some(name) =
            weights.keys().find(|name| !own.contains_key(*name) && !pmim_modules::owns(name))
        {
            return Err(Error::unknown("weight", name, own.keys()));
        }
        let mut pairs = Vec::new();
        for (name, target) in own {
            match weights.get(&name) {
                Some(source) => {
                    expect_shape("load weights", &name, source, &target.size())?;
                    pairs.push((source, target));
                }
                None if pmim_modules::owns(&name) => {}
                None => return Err(Error::unknown("weight", name, weights.keys())),
            }
        }
        tch::no_grad(|| {
            pairs.iter_mut().try_for_each(|(source, target)| Ok(target.f_copy_(source)?))
        })
    }
}
