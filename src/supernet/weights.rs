//! Reading and writing the weights of a supernet.

use super::{pmim_modules, Supernet, Weights};
use crate::error::expect_shape;
use crate::models::Architecture;
use crate::space::{Binding, Dimension};
use crate::{Error, Result};
use tch::Tensor;

impl<A: Architecture> Supernet<A> {
    /// Returns θ and all variables without gates, by name. A checkpoint stores them.
    ///
    /// They share memory with the supernet until its variables are laid out anew: when a fade-out begins, units are pruned,
    /// masked image modeling ends, or the precision or the set of frozen variables changes. Copy what has to stay as it is.
    pub fn raw_weights(&self) -> Weights {
        let raw = |(name, leaf): (&String, &Tensor)| {
            (name.clone(), self.gating.raw(name).unwrap_or(leaf).shallow_clone())
        };
        self.variables.iter().map(raw).collect()
    }

    /// Returns the network's variables θ ⊙ gates of the last [`materialise`](Self::materialise),
    /// without mask token and decoder: the gates are folded into the weights.
    pub fn folded_weights(&self) -> Weights {
        let own = self.reconstruction.is_some();
        let model = self.variables.iter().filter(|(name, _)| !(own && pmim_modules::owns(name)));
        model.map(|(name, leaf)| (name.clone(), leaf.shallow_clone())).collect()
    }

    /// Returns the floating-point variables outside θ, such as the running statistics of a batch norm, by name: their
    /// f32 values where the network computes in bf16.
    pub(crate) fn buffers(&self) -> Weights {
        self.outside_theta().map(|(name, own)| (name.clone(), own.shallow_clone())).collect()
    }

    /// Returns those of the [`buffers`](Self::buffers) that the network is built not to learn, in the order of their
    /// names: weights that are frozen later are left out.
    pub(crate) fn built_buffers(&self) -> Vec<Tensor> {
        let built = self.outside_theta().filter(|(name, _)| !self.built.contains(*name));
        built.map(|(_, own)| own.shallow_clone()).collect()
    }

    /// Returns the dimensions with the bindings whose values show how important a unit is: not those of mask token and
    /// decoder, whose values are random, nor those of constants, such as rotary frequencies. A constant is a variable that
    /// the network is built not to learn and that no gate multiplies.
    pub(crate) fn dimensions_of_weights(&self) -> Vec<Dimension> {
        let is_constant = |own: &Binding| {
            let learned = self.built.contains(&own.variable);
            self.variables.contains_key(&own.variable) && !learned && !own.role.is_gated()
        };
        let mut dimensions = self.declared_space().dimensions;
        for dimension in &mut dimensions {
            dimension.bindings.retain(|own| !is_constant(own));
        }
        dimensions
    }

    fn outside_theta(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        let theta = self.gating.theta().layout();
        let outside = move |(name, own): &(&String, &Tensor)| {
            theta.get(name).is_none() && own.is_floating_point()
        };
        let own = self.variables.iter().filter(outside);
        own.map(|(name, own)| (name, self.gating.raw(name).unwrap_or(own)))
    }

    /// Sets θ and all variables without gates. Names must be those of
    /// [`raw_weights`](Self::raw_weights); mask token and decoder may be missing or superfluous.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Unknown`] for a missing or superfluous name, [`Error::Shape`]
    /// for another shape; no weight is written then.
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
                None => return Err(Error::missing("weight", name)),
            }
        }
        crate::autograd::no_grad(|| {
            pairs.iter_mut().try_for_each(|(source, target)| Ok(target.f_copy_(source)?))
        })
    }
}
