//! Comparison of the logits before and after reordering the units in all bound axes.

use super::claim::Claim;
use super::probe::{is_rounding, Probe};
use super::repair;
use crate::error::Fault;
use crate::models::Architecture;
use crate::space::Dimension;
use crate::Result;

/// Returns a fault, with the axes that explain it, if reordering the units changes the logits.
pub(super) fn check<A: Architecture>(
    probe: &Probe<A>,
    dimension: &Dimension,
) -> Result<Option<Fault>> {
    let claim = Claim::of(dimension);
    let difference = claim.difference(probe)?;
    if is_rounding(difference) {
        return Ok(None);
    }
    let (suspects, explained) = repair::suspects(probe, claim, difference)?;
    Ok(Some(Fault::Order { dimension: dimension.name.clone(), difference, suspects, explained }))
}
