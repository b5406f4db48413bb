//! Gates of every variable, and the order of the variables in θ.

use super::gating::class;
use super::Weights;
use crate::space::{Binding, Candidates, Role, SearchSpace};
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// A gate on one axis of one variable.
#[derive(Debug)]
pub(super) struct Gate {
    /// Place of the factor of its first unit in the vector of all factors.
    pub(super) first: i64,
    /// Whether the factor is the bi-mask, and not one of a fade-out.
    pub(super) by_mask: bool,
    /// View of the variable, `[outer, entries, inner]` ([`Binding::view`]): the gate multiplies the
    /// middle axis.
    view: [i64; 3],
    /// Unit of every entry; `None` where entry and unit have the same number.
    units: Option<Vec<i64>>,
}

/// Places in the vector of all factors: the gates of every dimension, then 1, then the factors of
/// `Written` and of `Scaled` variables of every dimension in a fade-out.
pub(super) struct FactorPlaces {
    masks: Vec<i64>,
    pub(super) one: i64,
    fade_out: BTreeMap<usize, [i64; 2]>,
}

impl FactorPlaces {
    pub(super) fn new(space: &SearchSpace, fade_out: &[bool]) -> Self {
        let units = |at: usize| space.dimensions[at].candidates.units();
        let mut next = 0;
        let mut take = |length: i64| {
            next += length;
            next - length
        };
        let masks = (0..space.dimensions.len()).map(|at| take(units(at))).collect();
        let one = take(1);
        let fading = (0..space.dimensions.len()).filter(|&at| fade_out[at]);
        let fade_out = fading.map(|at| (at, [take(units(at)), take(units(at))])).collect();
        Self { masks, one, fade_out }
    }

    /// Returns the gates of a binding: by the bi-mask, by a fade-out factor, by both, or by none.
    fn gates(
        &self,
        at: usize,
        candidates: &Candidates,
        binding: &Binding,
        variable: &Tensor,
    ) -> Vec<Gate> {
        let by_mask = binding.role.is_gated();
        let fading = self.fade_out.get(&at).and_then(|[written, scaled]| match binding.role {
            Role::Written => Some(*written),
            Role::Scaled | Role::GatedNorm => Some(*scaled),
            Role::Gated | Role::Narrowed => None,
        });
        let view = binding.view(&variable.size());
        let unit = |entry| binding.unit_of(entry, candidates.channels());
        let units = || binding.half_split.then(|| (0..view[1]).map(unit).collect());
        let mask = by_mask.then(|| Gate { first: self.masks[at], by_mask, view, units: units() });
        let fading = fading.map(|first| Gate { first, by_mask: false, view, units: units() });
        mask.into_iter().chain(fading).collect()
    }
}

/// A variable with its gates.
pub(super) struct Gated<'a> {
    pub(super) name: &'a str,
    pub(super) shape: Vec<i64>,
    pub(super) gates: Vec<Gate>,
    pub(super) class: u8,
    /// Entries to which every gate is constant: the shortest inner length of its gates.
    pub(super) row: i64,
}

impl Gated<'_> {
    /// Returns the unit of a gate that multiplies a row.
    pub(super) fn unit(&self, gate: &Gate, row: i64) -> i64 {
        let [_, entries, inner] = gate.view;
        let entry = row * self.row / inner.max(1) % entries.max(1);
        match &gate.units {
            Some(units) => units.get(entry as usize).copied().unwrap_or(entry),
            None => entry,
        }
    }

    pub(super) fn rows(&self) -> i64 {
        self.shape.iter().product::<i64>() / self.row.max(1)
    }
}

/// Returns `learned` and gated variables in the order of [`class`], then of their rows' length.
pub(super) fn in_order<'a>(
    space: &SearchSpace,
    places: &FactorPlaces,
    variables: &'a Weights,
    learned: &BTreeSet<String>,
) -> Vec<Gated<'a>> {
    let mut gates: BTreeMap<&str, Vec<Gate>> = BTreeMap::new();
    for (at, dimension) in space.dimensions.iter().enumerate() {
        for binding in &dimension.bindings {
            let Some(variable) = variables.get(&binding.variable) else { continue };
            let own = places.gates(at, &dimension.candidates, binding, variable);
            gates.entry(&binding.variable).or_default().extend(own);
        }
    }
    let own = variables.iter().filter_map(|(name, variable)| {
        let gates = gates.remove(name.as_str()).unwrap_or_default();
        let learned = learned.contains(name);
        if gates.is_empty() && !learned {
            return None;
        }
        let row = gates.iter().map(|gate| gate.view[2]).min().unwrap_or(1);
        let class = class(name, variable, !gates.is_empty(), learned);
        Some(Gated { name, shape: variable.size(), gates, class, row })
    });
    let mut all: Vec<Gated> = own.collect();
    all.sort_by_key(|own| (own.class, own.row, own.name));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_of_a_row_follows_the_view_of_each_gate() {
        let view = [3, 4, 10];
        let gate = Gate { first: 0, by_mask: true, view, units: None };
        let own = Gated { name: "w", shape: vec![12, 10], gates: vec![], class: 0, row: 5 };
        let units: Vec<i64> = [0, 1, 2, 7, 8, 23].map(|row| own.unit(&gate, row)).into();
        assert_eq!(units, [0, 0, 1, 3, 0, 3]);
    }
}
