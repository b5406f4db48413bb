//! Comparison of the cost model with the declared dimensions and the sliced parameters.

use super::probe::Probe;
use super::sizes::{narrowed, sliced};
use crate::cost::{CostModel, Metric};
use crate::error::Fault;
use crate::models::Architecture;
use crate::space::{Dimension, SearchSpace, Size, Sizes};
use crate::{Error, Result};
use std::collections::BTreeSet;

/// Returns the dimensions that only the cost model names, and those that it does not name.
pub(super) fn unknown(model: &CostModel, space: &SearchSpace) -> Vec<Fault> {
    let terms = model.macs.terms().iter().chain(model.params.terms());
    let named: BTreeSet<&str> =
        terms.flat_map(|term| &term.factors).map(|size| size.dimension.as_str()).collect();
    let searched: BTreeSet<&str> = space.dimensions.iter().map(|d| d.name.as_str()).collect();
    let is_unknown = |name: &&&str| !searched.contains(**name) && !model.dense.contains_key(**name);
    let unknown = named.iter().filter(is_unknown);
    let unknown = unknown.map(|&name| Fault::UnknownCost { dimension: name.into() });
    let free = searched.difference(&named).map(|&name| Fault::Free { dimension: name.into() });
    unknown.chain(free).collect()
}

/// Compares the parameters that the smallest size saves, and the removal, counted and by the cost model.
pub(super) fn parameters<A: Architecture>(
    probe: &Probe<A>,
    architecture: &A,
    model: &CostModel,
    dimension: &Dimension,
) -> Result<Option<Fault>> {
    let least = dimension.candidates.least();
    let weights = sliced(probe, dimension, least)?;
    let left = weights.iter().filter(|(name, _)| probe.is_trained(name));
    let left = left.map(|(_, weight)| weight.numel()).sum();
    let fault = saved(probe, model, dimension, least, left)?;
    if fault.is_some() || !dimension.candidates.removable() {
        return Ok(fault);
    }
    let removed = match narrowed(probe, architecture, dimension, Size::REMOVED) {
        // A fault is reported with the sizes.
        Err(Error::Unsupported { .. }) | Ok(Err(_)) => return Ok(None),
        removed => removed?,
    };
    let Ok(removed) = removed else { return Ok(None) };
    saved(probe, model, dimension, Size::REMOVED, removed.trained())
}

/// Compares the parameters that a size saves by the cost model with those of the network that has `left`.
fn saved<A: Architecture>(
    probe: &Probe<A>,
    model: &CostModel,
    dimension: &Dimension,
    size: Size,
    left: usize,
) -> Result<Option<Fault>> {
    let full = dimension.candidates.full();
    let cost = |size| model.cost(Metric::Params, &Sizes::from([(dimension.name.clone(), size)]));
    let (Ok(dense), Ok(less)) = (cost(full), cost(size)) else {
        // Reported as an unknown dimension already.
        return Ok(None);
    };
    let expected = probe.trained() as f64 - left as f64;
    let actual = dense - less;
    if actual == expected {
        return Ok(None);
    }
    let (heads, channels) = (size.heads, size.channels);
    let dimension = dimension.name.clone();
    Ok(Some(Fault::Parameters { dimension, heads, channels, expected, actual }))
}
