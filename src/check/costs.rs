//! Comparison of the cost model with the declared dimensions and the sliced parameters.

use super::probe::Probe;
use super::sizes::sliced;
use crate::cost::{CostModel, Metric};
use crate::error::Fault;
use crate::models::Architecture;
use crate::space::{Dimension, SearchSpace, Sizes};
use crate::Result;
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

/// Compares the parameters that the smallest size saves, counted and by the cost model.
pub(super) fn parameters<A: Architecture>(
    probe: &Probe<A>,
    model: &CostModel,
    dimension: &Dimension,
) -> Result<Option<Fault>> {
    let (full, size) = (dimension.candidates.full(), dimension.candidates.size(0));
    let cost = |size| model.cost(Metric::Params, &Sizes::from([(dimension.name.clone(), size)]));
    let (Ok(dense), Ok(less)) = (cost(full), cost(size)) else {
        // Reported as an unknown dimension already.
        return Ok(None);
    };
    let mut expected = 0.0;
    for (name, weight) in sliced(probe, dimension, size)? {
        if probe.is_trained(&name) {
            expected += (probe.weights[&name].numel() - weight.numel()) as f64;
        }
    }
    let actual = dense - less;
    if actual == expected {
        return Ok(None);
    }
    let (heads, channels) = (size.heads, size.channels);
    let dimension = dimension.name.clone();
    Ok(Some(Fault::Parameters { dimension, heads, channels, expected, actual }))
}
