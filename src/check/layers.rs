//! Changes of weight and bias of a layer together, because they are declared wrongly together.

use super::change::{suspect, Change};
use super::claim::Claim;
use crate::error::Advice;
use crate::space::{Binding, Over};
use std::collections::BTreeMap;

/// Outputs of layers, by layer and layout.
type Layers<'a> = BTreeMap<(&'a str, i64, i64), Vec<&'a Binding>>;

/// Returns the declarations that bind the outputs of one more layer, or of another layer in place
/// of a bound one.
pub(super) fn changes(claim: &Claim, everywhere: &[Binding]) -> Vec<Change> {
    let bound = layers(&claim.bindings);
    let is_bound = |name: &str| bound.keys().any(|(layer, ..)| *layer == name);
    let mut free = layers(everywhere);
    free.retain(|(layer, ..), _| !is_bound(layer));
    let mut changes: Vec<Change> = free.values().map(|layer| with_layer(claim, layer)).collect();
    for old in bound.values() {
        changes.extend(
            free.values()
                .filter(|new| new.len() == old.len())
                .map(|new| with_layer_replaced(claim, old, new)),
        );
    }
    changes
}

/// Returns weight and bias of every layer that has both. A layer without bias is a single axis,
/// which other changes cover.
fn layers(bindings: &[Binding]) -> Layers<'_> {
    let mut layers = Layers::new();
    for binding in bindings.iter().filter(|b| b.axis == 0 && b.over == Over::Units) {
        // Names in TorchScript modules have underscores instead of dots.
        let Some((layer, _)) = binding.variable.rsplit_once(['.', '_']) else { continue };
        layers.entry((layer, binding.outer, binding.inner)).or_default().push(binding);
    }
    layers.retain(|_, parts| parts.len() > 1);
    layers.values_mut().for_each(|parts| parts.sort_by_key(|part| &part.variable));
    layers
}

fn with_layer(claim: &Claim, layer: &[&Binding]) -> Change {
    let mut claim = claim.clone();
    claim.bindings.extend(layer.iter().map(|&binding| binding.clone()));
    let advice = |b: &Binding| match b.half_split {
        true => Advice::BindHalfSplit { outer: b.outer },
        false => Advice::Bind { outer: b.outer, inner: b.inner },
    };
    Change { claim, suspects: layer.iter().map(|b| suspect(b, advice(b))).collect() }
}

fn with_layer_replaced(claim: &Claim, old: &[&Binding], new: &[&Binding]) -> Change {
    let mut claim = claim.clone();
    claim.bindings.retain(|binding| !old.contains(&binding));
    claim.bindings.extend(new.iter().map(|&binding| binding.clone()));
    let advice = |b: &Binding| Advice::BindInstead { variable: b.variable.clone(), axis: b.axis };
    let pairs = old.iter().zip(new);
    Change { claim, suspects: pairs.map(|(old, new)| suspect(old, advice(new))).collect() }
}
