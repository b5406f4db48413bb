//! Comparison of the network built at smaller sizes with the sliced and the masked network.

use super::attempt::attempt;
use super::probe::{is_rounding, Probe};
use crate::error::Fault;
use crate::models::Architecture;
use crate::space::{Dimension, DimensionKind, Role, Size, Sizes};
use crate::tensors::Weights;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// Builds the network at smaller sizes of a dimension and returns what differs from slicing. Logits
/// are compared only if reordering (`ordered`) found no fault.
pub(super) fn check<A: Architecture>(
    probe: &Probe<A>,
    architecture: &A,
    dimension: &Dimension,
    ordered: bool,
) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for size in smaller(dimension) {
        let narrow = match narrowed(probe, architecture, dimension, size) {
            Err(Error::Unsupported { .. }) => return Ok(Vec::new()),
            other => other?,
        };
        let narrow = match narrow {
            Ok(narrow) => narrow,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        let sliced = sliced(probe, dimension, size)?;
        let wrong = lengths(dimension, size, &sliced, &narrow.shapes());
        if !wrong.is_empty() {
            faults.extend(wrong);
            break;
        }
        if !ordered {
            continue;
        }
        let embeds = dimension.kind == DimensionKind::Embedding;
        if !embeds {
            faults.extend(logits(probe, &narrow, dimension, size, &sliced)?);
        } else if !has_writers(dimension)
            && logits(probe, &narrow, dimension, size, &sliced)?.is_none()
        {
            faults.push(Fault::Kind { dimension: dimension.name.clone() });
            break;
        }
    }
    Ok(faults)
}

/// Builds the network at a smaller size of a dimension; a panic or an error of it is a fault.
pub(super) fn narrowed<'a, A: Architecture>(
    probe: &Probe<'a, A>,
    architecture: &A,
    dimension: &Dimension,
    size: Size,
) -> Result<Result<Probe<'a, A>, Fault>> {
    let sizes = Sizes::from([(dimension.name.clone(), size)]);
    match attempt("resized", dimension, size, || architecture.resized(&sizes))? {
        Err(fault) => Ok(Err(fault)),
        Ok(resized) => attempt("build", dimension, size, || Probe::build(&resized, probe.images())),
    }
}

/// Returns whether layers add to the units, or norms run over them.
pub(super) fn has_writers(dimension: &Dimension) -> bool {
    let writes = |role| matches!(role, Role::GatedNorm | Role::Written | Role::Scaled);
    dimension.bindings.iter().any(|binding| writes(binding.role))
}

type Shapes = BTreeMap<String, Vec<i64>>;

/// Returns the smallest size with a unit, and for a grid also fewer heads alone and fewer channels alone, which
/// tell heads from channels; then the removal, if it is a candidate.
fn smaller(dimension: &Dimension) -> Vec<Size> {
    let (least, full) = (dimension.candidates.least(), dimension.candidates.full());
    let mut sizes = vec![least];
    for size in [Size { heads: least.heads, ..full }, Size { channels: least.channels, ..full }] {
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    sizes.retain(|&size| size != full);
    sizes.extend(dimension.candidates.removable().then_some(Size::REMOVED));
    sizes
}

/// Returns all weights, without the units beyond `size`.
pub(super) fn sliced<A: Architecture>(
    probe: &Probe<A>,
    dimension: &Dimension,
    size: Size,
) -> Result<Weights> {
    let channels = dimension.candidates.channels();
    let units: Vec<i64> = (0..size.heads)
        .flat_map(|head| (0..size.channels).map(move |channel| head * channels + channel))
        .collect();
    let mut weights: Weights =
        probe.weights.iter().map(|(name, weight)| (name.clone(), weight.shallow_clone())).collect();
    for binding in &dimension.bindings {
        let Some(weight) = weights.get_mut(&binding.variable) else { continue };
        let index = binding.entries_of(&Tensor::f_from_slice(&units)?, size, channels)?;
        *weight = binding.select(weight, &index.f_to_device(weight.device())?)?;
    }
    Ok(weights)
}

/// Returns the axes whose length differs from the sliced one. A removed branch has no variables, except those that the
/// network has kept.
fn lengths(dimension: &Dimension, size: Size, sliced: &Weights, built: &Shapes) -> Vec<Fault> {
    let names: BTreeSet<&String> = match size.is_removed() {
        true => built.keys().collect(),
        false => sliced.keys().chain(built.keys()).collect(),
    };
    let mut faults = Vec::new();
    for name in names {
        let expected = sliced.get(name).map(Tensor::size).unwrap_or_default();
        let actual = built.get(name).cloned().unwrap_or_default();
        for axis in 0..expected.len().max(actual.len()) {
            let at = |shape: &[i64]| shape.get(axis).copied().unwrap_or(0);
            if at(&expected) != at(&actual) {
                faults.push(Fault::Length {
                    dimension: dimension.name.clone(),
                    heads: size.heads,
                    channels: size.channels,
                    variable: name.clone(),
                    axis,
                    expected: at(&expected),
                    actual: at(&actual),
                });
            }
        }
    }
    faults
}

/// Compares the logits of the network at `size` with those of the masked network.
fn logits<A: Architecture>(
    probe: &Probe<A>,
    narrow: &Probe<A>,
    dimension: &Dimension,
    size: Size,
    sliced: &Weights,
) -> Result<Option<Fault>> {
    let zeroed = probe.zeroed(&dimension.bindings, dimension.candidates.full(), size)?;
    let narrowed = match attempt("forward", dimension, size, || narrow.logits_with(sliced))? {
        Ok(logits) => logits,
        Err(fault) => return Ok(Some(fault)),
    };
    let difference = probe.distance(&narrowed, &probe.logits(&zeroed)?)?;
    let gated = dimension.bindings.iter().find(|binding| binding.role.is_gated());
    let Some(gated) = gated.filter(|_| !is_rounding(difference)) else { return Ok(None) };
    Ok(Some(Fault::Narrowing {
        dimension: dimension.name.clone(),
        heads: size.heads,
        channels: size.channels,
        variable: gated.variable.clone(),
        axis: gated.axis,
        difference,
    }))
}
