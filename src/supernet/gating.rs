//! Gates as weights: materialise θ ⊙ gates, and pull gradients back to θ and to the gates.
//!
//! Every gate multiplies the output of a linear map or a token parameter, and scaling an output
//! channel is scaling that row of the weight and bias. So the supernet is the plain network with
//! other weights (design section 3), and masking costs a few passes over the gated weights a
//! step, whatever the batch.

use crate::space::{Binding, Role, SearchSpace};
use crate::tensors::widened;
use crate::Result;
use std::collections::btree_map::{BTreeMap, Entry};
use tch::{Kind, Tensor};

/// One gate on one variable.
#[derive(Debug)]
struct Gate {
    /// Number of the dimension.
    dimension: usize,
    /// The variable seen as `[outer, units, inner]`.
    view: [i64; 3],
    /// Multiplied by the bi-mask, or by what remains of units that are fade-out.
    role: Role,
}

/// What multiplies the variables in one step.
#[derive(Debug)]
pub(super) struct Factors<'a> {
    /// The bi-mask of every dimension.
    pub(super) masks: &'a [Tensor],
    /// By dimension that is fade-out: what multiplies its writers, and its norms' scales.
    pub(super) fade_out: BTreeMap<usize, [Tensor; 2]>,
}

/// A variable of the model that some dimension gates.
#[derive(Debug)]
pub(super) struct GatedVariable {
    name: String,
    /// The model's own variable: θ ⊙ gates.
    variable: Tensor,
    /// θ, what the optimiser moves.
    pub(super) raw: Tensor,
    gates: Vec<Gate>,
}

/// All gated variables of a model, by name.
#[derive(Debug)]
pub(super) struct Gating {
    variables: BTreeMap<String, GatedVariable>,
}

impl Gating {
    /// Copies what `space` gates out of the model's variables: the copies become θ, in f32. Writers
    /// are gated in the dimensions that are `fade-out`. Variables in half precision are copied
    /// too, without gates.
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

    /// θ of a gated variable.
    pub(super) fn raw(&self, name: &str) -> Option<&Tensor> {
        self.variables.get(name).map(|gated| &gated.raw)
    }

    /// Writes θ ⊙ gates into the model's variables.
    pub(super) fn materialise(&self, factors: &Factors) -> Result<()> {
        tch::no_grad(|| self.variables.values().try_for_each(|gated| gated.materialise(factors)))
    }

    /// Divides θ by the gates, so that θ ⊙ gates are the weights there were.
    pub(super) fn divide_by_gates(&self, factors: &Factors) -> Result<()> {
        tch::no_grad(|| self.variables.values().try_for_each(|gated| gated.divide_by_gates(factors)))
    }

    /// Turns the gradient of every model variable into that of θ, in place, and returns the
    /// gradient of every bi-mask, shaped like it.
    pub(super) fn pull_back(
        &self,
        gradients: &mut BTreeMap<String, Tensor>,
        factors: &Factors,
    ) -> Result<Vec<Tensor>> {
        tch::no_grad(|| {
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

/// What multiplies an axis, now that its dimension is fade-out or is not.
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
        let raw = tch::no_grad(|| variable.f_detach_copy()?.f_to_kind(Kind::Float))?;
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
                // In f32 to the end, then rounded once.
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

    /// What the network itself changes while it trains (running statistics) is taken over; of what
    /// it leaves alone no digit is lost to half precision.
    fn take_buffer_update(&self) -> Result<()> {
        if self.variable.requires_grad() || !self.gates.is_empty() {
            return Ok(());
        }
        let left_alone = self.raw.f_to_kind(self.variable.kind())?.f_eq_tensor(&self.variable)?;
        let present = self.variable.f_to_kind(Kind::Float)?;
        let followed = self.raw.f_where_self(&left_alone, &present)?;
        Ok(self.raw.shallow_clone().f_copy_(&followed)?)
    }

    fn divide_by_gates(&self, factors: &Factors) -> Result<()> {
        for gate in &self.gates {
            let _ = self.raw.f_view(gate.view)?.f_div_(&gate.factor(factors)?)?;
        }
        Ok(())
    }

    /// dgate = Σ g ⊙ θ ⊙ (the other gates) over the other axes; dθ = g ⊙ gates.
    fn pull_back(
        &self,
        gradient: &Tensor,
        factors: &Factors,
        pulled: &mut [Tensor],
    ) -> Result<Tensor> {
        // Autograd may hand one tensor to two variables, so nothing is changed in place.
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

/// Σ over the last axis of a product, without a temporary of its size where a row is long.
fn row_dots(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_linalg_vecdot(left, right, -1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// In half precision, running statistics move on and constants keep their digits.
    #[test]
    fn buffers_follow_the_network() -> Result<()> {
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
