//! Weight-space gates: θ ⊙ gates, and the gradients of θ and of the gates.
//!
//! The [module documentation](super) explains them. Here every variable is seen as
//! `[outer, units, inner]` (`Binding::view`), and a gate multiplies the middle axis.

use crate::space::{Binding, Role, SearchSpace};
use crate::tensors::widened;
use crate::Result;
use std::collections::btree_map::{BTreeMap, Entry};
use tch::{Kind, Tensor};

/// A gate on one axis of one variable.
#[derive(Debug)]
struct Gate {
    /// Index of the dimension in the search space.
    dimension: usize,
    /// View of the variable, `[outer, units, inner]`.
    view: [i64; 3],
    /// `Gated`: the factor is the bi-mask. `Written` or `Scaled`: it is a fade-out factor.
    role: Role,
}

/// Factors of all gates in one step.
#[derive(Debug)]
pub(super) struct Factors<'a> {
    /// Gates of every dimension: the bi-mask m, in a fade-out r·m₀ + (1 − r)·m₁.
    pub(super) masks: &'a [Tensor],
    /// Factors of `Written` and of `Scaled` variables of every dimension in a fade-out
    /// ([`FadeOut::factor`](super::FadeOut)).
    pub(super) fade_out: BTreeMap<usize, [Tensor; 2]>,
}

/// A variable of the network with its gates.
#[derive(Debug)]
pub(super) struct GatedVariable {
    name: String,
    /// The network's own variable: θ ⊙ gates.
    variable: Tensor,
    /// θ, which the optimiser updates.
    pub(super) raw: Tensor,
    gates: Vec<Gate>,
}

/// All gated variables of a network, by name.
#[derive(Debug)]
pub(super) struct Gating {
    variables: BTreeMap<String, GatedVariable>,
}

impl Gating {
    /// Copies every variable that `space` gates: the copies are θ, in f32. Variables with the role
    /// `Written` or `Scaled` are gated only in dimensions whose gates fade out (`fade_out`).
    /// Variables in half precision are copied even without gates, so that their θ is f32.
    pub(super) fn new(
        space: &SearchSpace,
        fade_out: &[bool],
        variables: &BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        let mut gated: BTreeMap<String, GatedVariable> = BTreeMap::new();
        for (dimension, declared) in space.dimensions.iter().enumerate() {
            for (binding, role) in
                declared.bindings.iter().flat_map(|b| gates(b, fade_out[dimension]))
            {
                let variable = &variables[&binding.variable];
                let view = binding.view(&variable.size());
                let gate = Gate { dimension, view, role };
                let entry = match gated.entry(binding.variable.clone()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        new.insert(GatedVariable::new(&binding.variable, variable)?)
                    }
                };
                entry.gates.push(gate);
            }
        }
        for (name, variable) in variables {
            let rounded = variable.is_floating_point() && variable.kind() != Kind::Float;
            if rounded && !gated.contains_key(name) {
                gated.insert(name.clone(), GatedVariable::new(name, variable)?);
            }
        }
        Ok(Self { variables: gated })
    }

    /// Returns θ of a gated variable.
    pub(super) fn raw(&self, name: &str) -> Option<&Tensor> {
        self.variables.get(name).map(|gated| &gated.raw)
    }

    /// Writes θ ⊙ gates into the network's variables.
    pub(super) fn materialise(&self, factors: &Factors) -> Result<()> {
        crate::autograd::no_grad(|| {
            self.variables.values().try_for_each(|gated| gated.materialise(factors))
        })
    }

    /// Divides θ by the gates, so that θ ⊙ gates are the given weights (`init.preserve_dense`).
    pub(super) fn divide_by_gates(&self, factors: &Factors) -> Result<()> {
        crate::autograd::no_grad(|| {
            self.variables.values().try_for_each(|gated| gated.divide_by_gates(factors))
        })
    }

    /// Turns the gradient of every variable into that of θ, in place, and returns the gradient of
    /// every bi-mask, shaped like it. Fade-out factors are constants and get no gradient.
    pub(super) fn pull_back(
        &self,
        gradients: &mut BTreeMap<String, Tensor>,
        factors: &Factors,
    ) -> Result<Vec<Tensor>> {
        crate::autograd::no_grad(|| {
            let zeros = factors.masks.iter().map(|mask| mask.f_zeros_like());
            let mut pulled: Vec<Tensor> = zeros.collect::<Result<_, _>>()?;
            for gated in self.variables.values() {
                gated.take_buffer_update()?;
                if let Some(gradient) = gradients.get_mut(&gated.name) {
                    *gradient = gated.pull_back(gradient, factors, &mut pulled)?;
                }
            }
            Ok(pulled)
        })
    }
}

/// Returns the gates of a binding: by the bi-mask, by a fade-out factor, by both, or by none.
fn gates(binding: &Binding, fade_out: bool) -> impl Iterator<Item = (&Binding, Role)> {
    let (always, while_fading_out) = match binding.role {
        Role::Gated => (Some(Role::Gated), None),
        Role::GatedNorm => (Some(Role::Gated), Some(Role::Scaled)),
        role @ (Role::Written | Role::Scaled) => (None, Some(role)),
        Role::Narrowed => (None, None),
    };
    let roles = always.into_iter().chain(while_fading_out.filter(|_| fade_out));
    roles.map(move |role| (binding, role))
}

impl GatedVariable {
    fn new(name: &str, variable: &Tensor) -> Result<Self> {
        let raw = crate::autograd::no_grad(|| variable.f_detach_copy()?.f_to_kind(Kind::Float))?;
        let variable = variable.shallow_clone();
        Ok(Self { name: name.into(), variable, raw, gates: Vec::new() })
    }

    fn materialise(&self, factors: &Factors) -> Result<()> {
        match self.gates.as_slice() {
            [] => self.variable.shallow_clone().f_copy_(&self.raw)?,
            [gate] => {
                let (raw, target) = (self.raw.f_view(gate.view)?, self.variable.f_view(gate.view)?);
                let _ = raw.f_mul_out(&target, &gate.factor(factors)?)?;
            }
            gates => {
                // The product is f32, and is rounded once.
                let mut product = self.raw.shallow_clone();
                for gate in gates {
                    product = product.f_view(gate.view)?.f_mul(&gate.factor(factors)?)?;
                }
                let product = product.f_view_as(&self.variable)?;
                self.variable.shallow_clone().f_copy_(&product)?;
            }
        }
        Ok(())
    }

    /// Copies buffers that the network's forward pass changed, such as running statistics, to θ.
    ///
    /// Entries that still equal θ rounded to the variable's kind keep their f32 value.
    fn take_buffer_update(&self) -> Result<()> {
        if self.variable.requires_grad() || !self.gates.is_empty() {
            return Ok(());
        }
        let unchanged = self.raw.f_to_kind(self.variable.kind())?.f_eq_tensor(&self.variable)?;
        let present = self.variable.f_to_kind(Kind::Float)?;
        let updated = self.raw.f_where_self(&unchanged, &present)?;
        Ok(self.raw.shallow_clone().f_copy_(&updated)?)
    }

    fn divide_by_gates(&self, factors: &Factors) -> Result<()> {
        for gate in &self.gates {
            let _ = self.raw.f_view(gate.view)?.f_div_(&gate.factor(factors)?)?;
        }
        Ok(())
    }

    /// Returns ∂L/∂θ = g ⊙ (product of all gates), and adds to `pulled` for every bi-mask
    /// ∂L/∂gate = Σ g ⊙ θ ⊙ (product of the other gates), summed over the entries it multiplies.
    fn pull_back(
        &self,
        gradient: &Tensor,
        factors: &Factors,
        pulled: &mut [Tensor],
    ) -> Result<Tensor> {
        // Autograd may return one tensor as the gradient of two variables: do not modify in place.
        let mut gradient = widened(gradient)?.f_contiguous()?;
        for (at, gate) in self.gates.iter().enumerate().filter(|(_, g)| g.role == Role::Gated) {
            let mut others = gradient.shallow_clone();
            for (_, other) in self.gates.iter().enumerate().filter(|(index, _)| *index != at) {
                others = others.f_view(other.view)?.f_mul(&other.factor(factors)?)?;
            }
            let (left, right) = (others.f_view(gate.view)?, self.raw.f_view(gate.view)?);
            let sums =
                row_dots(&left, &right)?.f_sum_dim_intlist([0i64].as_slice(), false, None)?;
            let target = &mut pulled[gate.dimension];
            let _ = target.f_add_(&sums.f_view_as(target)?)?;
        }
        for gate in &self.gates {
            gradient = gradient.f_view(gate.view)?.f_mul(&gate.factor(factors)?)?;
        }
        Ok(gradient.f_view_as(&self.raw)?)
    }
}

impl Gate {
    fn factor(&self, factors: &Factors) -> Result<Tensor> {
        let fade_out = || factors.fade_out.get(&self.dimension);
        let factor = match (self.role, fade_out()) {
            (Role::Written, Some([written, _])) => written,
            (Role::Scaled, Some([_, scaled])) => scaled,
            _ => &factors.masks[self.dimension],
        };
        Ok(factor.f_detach()?.f_view([1, -1, 1])?)
    }
}

/// Returns Σ left ⊙ right over the last axis, without materialising the product.
fn row_dots(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_linalg_vecdot(left, right, -1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn bf16_buffer_changed_by_the_network_updates_theta_and_unchanged_one_keeps_f32() -> Result<()>
    {
        let half = || Tensor::f_full([2], 0.1, (Kind::BFloat16, Device::Cpu));
        let variables =
            BTreeMap::from([("constant".into(), half()?), ("statistic".into(), half()?)]);
        let gating = Gating::new(&SearchSpace::empty(), &[], &variables)?;
        for gated in gating.variables.values() {
            let _ = gated.raw.shallow_clone().f_fill_(0.1)?;
        }
        let factors = Factors { masks: &[], fade_out: BTreeMap::new() };
        gating.materialise(&factors)?;
        let _ = variables["statistic"].shallow_clone().f_fill_(3.0)?;
        gating.pull_back(&mut BTreeMap::new(), &factors)?;
        gating.materialise(&factors)?;
        let first = |tensor: &Tensor| tensor.f_double_value(&[0]);
        for (name, expected) in [("constant", f64::from(0.1f32)), ("statistic", 3.0)] {
            let raw = gating.raw(name).map(first).transpose()?;
            assert_eq!(raw, Some(expected), "{name}");
        }
        assert_eq!(first(&variables["statistic"])?, 3.0);
        Ok(())
    }
}
