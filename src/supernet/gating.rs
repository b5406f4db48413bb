//! Gates as weights: materialise θ ⊙ gates, and pull gradients back to θ and to the gates.
//!
//! Every gate multiplies the output of a linear map or a token parameter, and scaling an output
//! channel is scaling that row of the weight and bias. So the supernet is the plain network with
//! other weights (design section 3), and masking costs a few passes over the gated weights a
//! step, whatever the batch.

use crate::space::{Role, SearchSpace};
use crate::Result;
use std::collections::BTreeMap;
use tch::Tensor;

/// One gate on one variable.
#[derive(Debug)]
struct Gate {
    /// Number of the dimension whose bi-mask it is.
    dimension: usize,
    /// The variable seen as `[outer, units, inner]`.
    view: [i64; 3],
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
    /// Copies what `space` gates out of the model's variables: the copies become θ.
    pub(super) fn new(space: &SearchSpace, variables: &BTreeMap<String, Tensor>) -> Result<Self> {
        let mut gated: BTreeMap<String, GatedVariable> = BTreeMap::new();
        for (dimension, declared) in space.dimensions.iter().enumerate() {
            for binding in declared.bindings.iter().filter(|binding| binding.role == Role::Gated) {
                let variable = &variables[&binding.variable];
                let gate = Gate { dimension, view: binding.view(&variable.size()) };
                match gated.get_mut(&binding.variable) {
                    Some(entry) => entry.gates.push(gate),
                    None => {
                        let entry = GatedVariable::new(&binding.variable, variable, gate)?;
                        gated.insert(binding.variable.clone(), entry);
                    }
                }
            }
        }
        Ok(Self { variables: gated })
    }

    /// θ of a gated variable.
    pub(super) fn raw(&self, name: &str) -> Option<&Tensor> {
        self.variables.get(name).map(|gated| &gated.raw)
    }

    /// Writes θ ⊙ gates into the model's variables.
    pub(super) fn materialise(&self, masks: &[Tensor]) -> Result<()> {
        tch::no_grad(|| self.variables.values().try_for_each(|gated| gated.materialise(masks)))
    }

    /// Divides θ by the gates, so that θ ⊙ gates are the weights there were.
    pub(super) fn absorb(&self, masks: &[Tensor]) -> Result<()> {
        let inverse: Vec<Tensor> =
            masks.iter().map(|mask| mask.f_reciprocal()).collect::<Result<_, _>>()?;
        tch::no_grad(|| self.variables.values().try_for_each(|gated| gated.scale(&inverse)))
    }

    /// Turns the gradient of every model variable into that of θ, in place, and returns the
    /// gradient of every bi-mask, shaped like it.
    pub(super) fn pull_back(
        &self,
        gradients: &mut BTreeMap<String, Tensor>,
        masks: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        tch::no_grad(|| {
            let mut pulled: Vec<Tensor> =
                masks.iter().map(|mask| mask.f_zeros_like()).collect::<Result<_, _>>()?;
            for gated in self.variables.values() {
                if let Some(gradient) = gradients.get_mut(&gated.name) {
                    *gradient = gated.pull_back(gradient, masks, &mut pulled)?;
                }
            }
            Ok(pulled)
        })
    }
}

impl GatedVariable {
    fn new(name: &str, variable: &Tensor, gate: Gate) -> Result<Self> {
        let raw = tch::no_grad(|| variable.f_detach_copy())?;
        Ok(Self { name: name.into(), variable: variable.shallow_clone(), raw, gates: vec![gate] })
    }

    fn materialise(&self, masks: &[Tensor]) -> Result<()> {
        for (at, gate) in self.gates.iter().enumerate() {
            let target = self.variable.f_view(gate.view)?;
            let source = if at == 0 { self.raw.f_view(gate.view)? } else { target.shallow_clone() };
            let _ = source.f_mul_out(&target, &gate.factor(masks)?)?;
        }
        Ok(())
    }

    fn scale(&self, masks: &[Tensor]) -> Result<()> {
        for gate in &self.gates {
            let _ = self.raw.f_view(gate.view)?.f_mul_(&gate.factor(masks)?)?;
        }
        Ok(())
    }

    /// dgate = Σ g ⊙ θ ⊙ (the other gates) over the other axes; dθ = g ⊙ gates.
    fn pull_back(
        &self,
        gradient: &Tensor,
        masks: &[Tensor],
        pulled: &mut [Tensor],
    ) -> Result<Tensor> {
        // Autograd may hand one tensor to two variables, so nothing is changed in place.
        let mut gradient = gradient.f_contiguous()?;
        for (at, gate) in self.gates.iter().enumerate() {
            let mut others = gradient.shallow_clone();
            for (_, other) in self.gates.iter().enumerate().filter(|(index, _)| *index != at) {
                others = others.f_view(other.view)?.f_mul(&other.factor(masks)?)?;
            }
            let (left, right) = (others.f_view(gate.view)?, self.raw.f_view(gate.view)?);
            let sums =
                row_dots(&left, &right)?.f_sum_dim_intlist([0i64].as_slice(), false, None)?;
            let target = &mut pulled[gate.dimension];
            let _ = target.f_add_(&sums.f_view_as(target)?)?;
        }
        for gate in &self.gates {
            gradient = gradient.f_view(gate.view)?.f_mul(&gate.factor(masks)?)?;
        }
        Ok(gradient.f_view_as(&self.raw)?)
    }
}

impl Gate {
    fn factor(&self, masks: &[Tensor]) -> Result<Tensor> {
        Ok(masks[self.dimension].f_detach()?.f_view([1, -1, 1])?)
    }
}

/// Σ over the last axis of a product, without a temporary of its size where a row is long.
fn row_dots(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_linalg_vecdot(left, right, -1)?)
}
