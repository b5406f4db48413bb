//! Comparison of the network with gates at zero and the network with zeros in all bound axes.

use super::probe::{is_rounding, Probe};
use super::sizes::has_writers;
use crate::error::{Advice, Fault, Suspect};
use crate::models::Architecture;
use crate::space::{Binding, Dimension, DimensionKind, Role, Size};
use crate::Result;
use tch::Tensor;

/// Returns a fault if zeros in the gated axes do not give the logits of zeros in all bound axes.
pub(super) fn check<A: Architecture>(
    probe: &Probe<A>,
    dimension: &Dimension,
) -> Result<Option<Fault>> {
    let roles = || dimension.bindings.iter().map(|binding| binding.role);
    if !roles().any(Role::is_gated) {
        return Ok(Some(Fault::NoGate { dimension: dimension.name.clone() }));
    }
    // An embedding without written axes still changes the logits until it is pruned.
    if dimension.kind == DimensionKind::Embedding && !has_writers(dimension) {
        return Ok(None);
    }
    let candidates = &dimension.candidates;
    let full = candidates.full();
    let size = match candidates.least() {
        least if least != full => least,
        _ if candidates.removable() => Size::REMOVED,
        _ => return Ok(None),
    };
    let zeros = Zeros { probe, full, size };
    let all = zeros.logits(&dimension.bindings.iter().collect::<Vec<_>>())?;
    let (gated, other): (Vec<&Binding>, Vec<&Binding>) =
        dimension.bindings.iter().partition(|binding| binding.role != Role::Narrowed);
    let difference = probe.distance(&zeros.logits(&gated)?, &all)?;
    if is_rounding(difference) {
        return Ok(None);
    }
    let suspects = zeros.needed(gated, other, &all)?;
    Ok(Some(Fault::Gates { dimension: dimension.name.clone(), difference, suspects }))
}

/// A dimension at its full size, whose units beyond `size` become zero.
struct Zeros<'a, 'i, A: Architecture> {
    probe: &'a Probe<'i, A>,
    full: Size,
    size: Size,
}

impl<A: Architecture> Zeros<'_, '_, A> {
    fn logits(&self, bindings: &[&Binding]) -> Result<Tensor> {
        let zeroed = self.probe.zeroed(bindings.iter().copied(), self.full, self.size)?;
        self.probe.logits(&zeroed)
    }

    /// Returns a smallest set of the `other` bindings that have to be zero as well. Axes that read
    /// the units (inputs, axis 1) are left out first, because a gate belongs to the outputs.
    fn needed(
        &self,
        gated: Vec<&Binding>,
        mut other: Vec<&Binding>,
        all: &Tensor,
    ) -> Result<Vec<Suspect>> {
        other.sort_by_key(|binding| std::cmp::Reverse(binding.axis));
        let mut needed = other.clone();
        for binding in other {
            let fewer: Vec<&Binding> = needed.iter().copied().filter(|n| *n != binding).collect();
            let zeros = [gated.clone(), fewer.clone()].concat();
            if is_rounding(self.probe.distance(&self.logits(&zeros)?, all)?) {
                needed = fewer;
            }
        }
        let suspect = |binding: &Binding| Suspect {
            variable: binding.variable.clone(),
            axis: binding.axis,
            advice: Advice::Gate,
        };
        Ok(needed.into_iter().map(suspect).collect())
    }
}
