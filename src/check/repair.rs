//! Search for the change of a declaration that corrects it.
//!
//! Changes are tried one at a time, likely ones first. Those with which reordering changes no logit
//! are the suspects. If there is none, the change that reduces the difference most is kept, and
//! further changes are tried on top of it.

use super::change::{suspect, Change};
use super::claim::Claim;
use super::layers;
use super::probe::{is_rounding, Probe};
use crate::error::{Advice, Suspect};
use crate::models::Architecture;
use crate::space::{Binding, Over, Size};
use crate::Result;

/// Most changes that are combined.
const ROUNDS: usize = 4;
/// Most explanations of one fault that are reported.
const MOST: usize = 3;
/// A change is kept if the difference falls below this share of the one before.
const HELPS: f64 = 0.95;
/// In a dimension of more than [`MANY`] bindings, a change is kept without trying further kinds if
/// the difference falls below this share.
const KEPT_AT_ONCE: f64 = 0.8;
const MANY: usize = 20;

/// Returns the axes that explain why reordering by `claim` changes the logits, and whether they
/// explain all of the difference.
pub(super) fn suspects<A: Architecture>(
    probe: &Probe<A>,
    mut claim: Claim,
    mut difference: f64,
) -> Result<(Vec<Suspect>, bool)> {
    let mut found: Vec<Suspect> = Vec::new();
    for _ in 0..ROUNDS {
        let everywhere = axes(probe, claim.grid);
        let kinds: [&dyn Fn() -> Vec<Change>; 4] = [
            &|| single(&claim, &everywhere),
            &|| layouts(&claim),
            &|| moves(&claim, &everywhere),
            &|| layers::changes(&claim, &everywhere),
        ];
        let mut best: Option<(f64, Change)> = None;
        for changes in kinds {
            let exact = attempt(probe, changes(), &mut best)?;
            if !exact.is_empty() {
                found.extend(exact.into_iter().take(MOST).flat_map(|change| change.suspects));
                return Ok((found, true));
            }
            // Trying all pairs of axes would take long, and mostly a weight and a bias are missing.
            let promising =
                best.as_ref().is_some_and(|(left, _)| *left < KEPT_AT_ONCE * difference);
            if promising && claim.bindings.len() > MANY {
                break;
            }
        }
        let Some((left, change)) = best.filter(|(left, _)| *left < HELPS * difference) else {
            break;
        };
        (claim, difference) = (change.claim, left);
        found.extend(change.suspects);
    }
    Ok((found, false))
}

/// Returns the changes with which reordering changes no logit; `best` becomes the change with the
/// smallest difference among the others.
fn attempt<A: Architecture>(
    probe: &Probe<A>,
    changes: Vec<Change>,
    best: &mut Option<(f64, Change)>,
) -> Result<Vec<Change>> {
    let mut exact = Vec::new();
    for change in changes {
        let left = change.claim.difference(probe)?;
        if is_rounding(left) {
            exact.push(change);
        } else if best.as_ref().is_none_or(|(least, _)| left < *least) {
            *best = Some((left, change));
        }
    }
    Ok(exact)
}

/// Returns the declarations with one axis more or one axis less.
fn single(claim: &Claim, everywhere: &[Binding]) -> Vec<Change> {
    let is_bound = |other: &Binding| {
        claim.bindings.iter().any(|b| b.variable == other.variable && b.axis == other.axis)
    };
    let free = everywhere.iter().filter(|binding| !is_bound(binding));
    let more = free.map(|binding| {
        let advice = match binding.over {
            Over::Units if binding.half_split => Advice::BindHalfSplit { outer: binding.outer },
            Over::Units => Advice::Bind { outer: binding.outer, inner: binding.inner },
            Over::Heads => Advice::BindHeads,
        };
        let suspects = vec![suspect(binding, advice)];
        let mut claim = claim.clone();
        claim.bindings.push(binding.clone());
        Change { claim, suspects }
    });
    let less = (0..claim.bindings.len()).map(|at| {
        let mut claim = claim.clone();
        let binding = claim.bindings.remove(at);
        Change { claim, suspects: vec![suspect(&binding, Advice::Unbind)] }
    });
    more.chain(less).collect()
}

/// Returns the declarations with another axis of the same variable in place of one, or the same axis
/// in another block.
fn moves(claim: &Claim, everywhere: &[Binding]) -> Vec<Change> {
    let mut changes = Vec::new();
    for (at, binding) in claim.bindings.iter().enumerate() {
        let is_alike = |other: &&Binding| match other.variable == binding.variable {
            true => other.axis != binding.axis,
            false => other.axis == binding.axis && are_twins(&other.variable, &binding.variable),
        };
        for other in everywhere.iter().filter(is_alike) {
            let mut claim = claim.clone();
            claim.bindings[at] = other.clone();
            let advice = Advice::BindInstead { variable: other.variable.clone(), axis: other.axis };
            changes.push(Change { claim, suspects: vec![suspect(binding, advice)] });
        }
    }
    changes
}

/// Returns the declarations with another layout: repetitions inside instead of outside, or another
/// grid.
fn layouts(claim: &Claim) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut seen = Vec::new();
    for binding in &claim.bindings {
        let layout = (binding.outer, binding.inner);
        if layout.0 == layout.1 || seen.contains(&layout) {
            continue;
        }
        seen.push(layout);
        let mut claim = claim.clone();
        let mut suspects = Vec::new();
        // Weight and bias of a layer have the same layout.
        for own in claim.bindings.iter_mut().filter(|own| (own.outer, own.inner) == layout) {
            (own.outer, own.inner) = (own.inner, own.outer);
            let advice = Advice::Layout { outer: own.outer, inner: own.inner };
            suspects.push(suspect(own, advice));
        }
        changes.push(Change { claim, suspects });
    }
    changes.extend(half_split(claim));
    changes.extend(grids(claim));
    changes
}

/// Returns the declaration with pairs of channels half a head apart instead of next to each other, or the
/// other way round.
fn half_split(claim: &Claim) -> Option<Change> {
    if claim.grid.heads == 1 {
        return None;
    }
    let mut claim = claim.clone();
    let mut suspects = Vec::new();
    for own in claim.bindings.iter_mut().filter(|own| own.over == Over::Units) {
        let advice = match (own.half_split, own.inner % 2) {
            (true, _) => {
                (own.half_split, own.inner) = (false, own.inner * 2);
                Advice::Layout { outer: own.outer, inner: own.inner }
            }
            (false, 0) => {
                (own.half_split, own.inner) = (true, own.inner / 2);
                Advice::HalfSplit { outer: own.outer, inner: own.inner }
            }
            (false, _) => continue,
        };
        suspects.push(suspect(own, advice));
    }
    (!suspects.is_empty()).then_some(Change { claim, suspects })
}

/// Returns the declarations with the numbers of heads and channels exchanged, or with the heads of
/// each channel together instead of the channels of each head.
fn grids(claim: &Claim) -> Vec<Change> {
    let Some(first) = claim.bindings.first() else { return Vec::new() };
    let Size { heads, channels } = claim.grid;
    if heads == 1 || channels == 1 {
        return Vec::new();
    }
    let memory = Change {
        claim: Claim { channels_outside: !claim.channels_outside, ..claim.clone() },
        suspects: vec![suspect(first, Advice::ChannelsOutside)],
    };
    // Whatever has an entry for every head has told how many there are.
    if claim.bindings.iter().any(|binding| binding.over == Over::Heads) {
        return vec![memory];
    }
    let turned = Size { heads: channels, channels: heads };
    let advice = Advice::Grid { heads: turned.heads, channels: turned.channels };
    let number = Change {
        claim: Claim { grid: turned, ..claim.clone() },
        suspects: vec![suspect(first, advice)],
    };
    vec![number, memory]
}

/// Returns every axis that could hold the units of a grid, in every layout, or its heads.
fn axes<A: Architecture>(probe: &Probe<A>, grid: Size) -> Vec<Binding> {
    let mut axes = Vec::new();
    for (name, shape) in probe.shapes() {
        for (axis, &length) in shape.iter().enumerate() {
            if length == grid.heads && grid.heads > 1 && grid.channels > 1 {
                axes.push(Binding::narrowed(&name, axis).over_heads());
            }
            let times = length / grid.units();
            if times == 0 || length % grid.units() != 0 || grid.units() == 1 {
                continue;
            }
            axes.push(Binding::narrowed(&name, axis).outer(times));
            if times > 1 {
                axes.push(Binding::narrowed(&name, axis).inner(times));
            }
            // In a single head it is outer 2.
            if times % 2 == 0 && grid.heads > 1 && grid.channels > 1 {
                axes.push(Binding::narrowed(&name, axis).outer(times / 2).half_split());
            }
        }
    }
    axes
}

/// Whether two names differ in digits only, as those of one variable in two blocks do.
fn are_twins(left: &str, right: &str) -> bool {
    let words = |name: &str| -> Vec<String> {
        name.split(|c: char| c.is_ascii_digit())
            .map(str::to_string)
            .filter(|w| !w.is_empty())
            .collect()
    };
    words(left) == words(right)
}
