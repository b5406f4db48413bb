//! Gates of a supernet: materialise, divide, pull back.

use super::gating::Factors;
use super::{DimensionState, Supernet};
use crate::error::expect_shape;
use crate::models::Architecture;
use crate::optim::FlatTensors;
use crate::space::Role;
use crate::tensors::to_host;
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::Tensor;

/// Smallest gate that θ is divided by.
const LEAST_DIVISOR: f64 = 1e-30;

impl<A: Architecture> Supernet<A> {
    /// θ of all learned and all gated variables, in one buffer; variables with units that are frozen after the build stay in it.
    pub fn theta(&self) -> &FlatTensors {
        self.gating.theta()
    }

    /// Writes θ ⊙ gates into the network's own variables, without autograd.
    ///
    /// # Shapes
    /// `gates`: one tensor per dimension, shaped like its scores, `[heads, channels]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another number of gates than dimensions, [`Error::Shape`] for gates
    /// of another shape.
    pub fn materialise(&self, gates: &[Tensor]) -> Result<()> {
        self.expect_gates(gates)?;
        self.gating.materialise(&self.factors(gates)?)
    }

    /// Divides θ by the gates: θ ← θ / gates. Materialised at the same gates, the network has the
    /// weights it had before, so a search can start from the dense network's function.
    ///
    /// # Shapes
    /// `gates`: one tensor per dimension, shaped like its scores, `[heads, channels]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another number of gates than dimensions, [`Error::Shape`] for gates
    /// of another shape; [`Error::Invalid`] for a gate below 1e-30, which would make θ infinite.
    pub fn divide_by_gates(&self, gates: &[Tensor]) -> Result<()> {
        self.expect_gates(gates)?;
        self.expect_divisors(gates)?;
        self.gating.divide_by_gates(&self.factors(gates)?)
    }

    /// Turns gradients of the network's variables, laid out like [`theta`](Self::theta), into gradients
    /// of θ, in place, and returns the gradients of the gates: with g = ∂L/∂(θ ⊙ gates), ∂L/∂θ = g ⊙ gates and
    /// ∂L/∂gate = Σ g ⊙ θ over all entries that the gate multiplies.
    ///
    /// # Shapes
    /// `gates` and result: one tensor per dimension, `[heads, channels]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Shape`] as in [`materialise`](Self::materialise);
    /// [`Error::Invalid`] if the gradients are not laid out like θ.
    pub fn pull_back(&self, gradients: &FlatTensors, gates: &[Tensor]) -> Result<Vec<Tensor>> {
        self.expect_gates(gates)?;
        if gradients.layout() != self.gating.theta().layout() {
            let expected = "laid out like θ, as Supernet::theta is";
            return Err(Error::invalid("gradients", expected, "another layout"));
        }
        self.gating.pull_back(gradients, &self.factors(gates)?)
    }

    /// Returns the gates, and the fade-out factors of dimensions whose gates fade out.
    fn factors<'a>(&self, masks: &'a [Tensor]) -> Result<Factors<'a>> {
        let mut fade_out = BTreeMap::new();
        for (at, state) in self.states.iter().enumerate() {
            let factors = self.has_fade_out_factors(at);
            if let Some(fading) = state.fade_out.as_ref().filter(|_| factors) {
                let roles = [Role::Written, Role::Scaled].map(|role| fading.factor(role));
                let [written, scaled] = roles;
                fade_out.insert(at, [written?, scaled?]);
            }
        }
        Ok(Factors { masks, fade_out })
    }

    /// Whether the gates of a dimension fade out, and it has variables that are gated then alone, or otherwise than by
    /// the bi-mask.
    pub(super) fn has_fade_out_factors(&self, at: usize) -> bool {
        let roles = self.space.dimensions[at].bindings.iter().map(|binding| binding.role);
        let own = |role| matches!(role, Role::Written | Role::Scaled | Role::GatedNorm);
        self.states[at].fade_out.is_some() && roles.into_iter().any(own)
    }

    /// Checks that there is one gate tensor per dimension, shaped like its scores.
    pub(super) fn expect_gates(&self, gates: &[Tensor]) -> Result<()> {
        if gates.len() != self.states.len() {
            let expected = self.states.len().to_string();
            return Err(Error::invalid("number of gates", expected, gates.len()));
        }
        gates.iter().zip(&self.states).try_for_each(|(gate, state)| {
            expect_shape("gates", &state.name, gate, &state.candidates().unit_shape())
        })
    }

    /// Refuses gates that θ cannot be divided by. Reads from the device, once.
    fn expect_divisors(&self, gates: &[Tensor]) -> Result<()> {
        // A removed branch has no gates.
        let (states, gates): (Vec<&DimensionState>, Vec<&Tensor>) =
            self.states.iter().zip(gates).filter(|(_, gate)| gate.numel() > 0).unzip();
        if gates.is_empty() {
            return Ok(());
        }
        let least = gates.iter().map(|gate| gate.f_min());
        let least: Vec<Tensor> = least.collect::<std::result::Result<_, _>>()?;
        let least = to_host(&Tensor::f_stack(&least, 0)?)?;
        let too_small = |(_, least): &(_, f64)| least.is_nan() || *least < LEAST_DIVISOR;
        match states.into_iter().zip(least).find(too_small) {
            None => Ok(()),
            Some((state, least)) => {
                let expected = format!(
                    "at least {LEAST_DIVISOR:e}, because θ is divided by them (init.preserve_dense)"
                );
                Err(Error::invalid(format!("gates of {}", state.name), expected, least))
            }
        }
    }
}
