//! Gates in, gradients of gates out: the two ends of a step.

use super::gating::Factors;
use super::{Supernet, Weights};
use crate::error::expect_shape;
use crate::models::Architecture;
use crate::space::Role;
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::Tensor;

impl<A: Architecture> Supernet<A> {
    /// Writes θ ⊙ gates into the model's variables, outside autograd.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Shape`] unless there is one gate of its shape a dimension.
    pub fn materialise(&self, gates: &[Tensor]) -> Result<()> {
        self.expect_gates(gates)?;
        self.gating.materialise(&self.factors(gates)?)
    }

    /// Divides θ by the gates, so that the network at these gates is the one there was.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Shape`] unless there is one gate of its shape a dimension.
    pub fn divide_by_gates(&self, gates: &[Tensor]) -> Result<()> {
        self.expect_gates(gates)?;
        self.gating.divide_by_gates(&self.factors(gates)?)
    }

    /// Turns gradients of the model's variables into gradients of θ, in place; returns the
    /// gradients of the gates.
    ///
    /// # Errors
    /// [`Error::Torch`] if a gradient has another shape than its variable.
    pub fn pull_back(&self, gradients: &mut Weights, gates: &[Tensor]) -> Result<Vec<Tensor>> {
        self.expect_gates(gates)?;
        self.gating.pull_back(gradients, &self.factors(gates)?)
    }

    /// Gates, and what multiplies the writers of dimensions that are fade-out.
    fn factors<'a>(&self, masks: &'a [Tensor]) -> Result<Factors<'a>> {
        let mut fade_out = BTreeMap::new();
        for (at, state) in self.states.iter().enumerate() {
            if let Some(under_way) = &state.fade_out {
                let roles = [Role::Written, Role::Scaled].map(|role| under_way.factor(role));
                let [written, scaled] = roles;
                fade_out.insert(at, [written?, scaled?]);
            }
        }
        Ok(Factors { masks, fade_out })
    }

    /// One gate a dimension, each shaped like its scores.
    pub(super) fn expect_gates(&self, gates: &[Tensor]) -> Result<()> {
        if gates.len() != self.states.len() {
            let expected = self.states.len().to_string();
            return Err(Error::invalid("number of gates", expected, gates.len()));
        }
        gates.iter().zip(&self.states).try_for_each(|(gate, state)| {
            expect_shape("gates", &state.name, gate, &state.candidates().unit_shape())
        })
    }
}
