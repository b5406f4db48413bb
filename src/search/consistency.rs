//! Checks of a checkpoint before memory is taken for it: its state against itself, and against the
//! header of its tensors.

use super::events::Phase;
use super::snapshot::{DimensionRecord, State, TENSORS};
use super::stored_tensors::check_tensors;
use crate::models::Architecture;
use crate::space::{Candidates, Dimension, SearchSpace, Size};
use crate::supernet::declared;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Highest number that is taken for a count: all up to it are exact as f64.
const MOST: u64 = 1 << 53;

/// Architecture and search space that a search was built with.
#[derive(Deserialize)]
#[serde(bound = "A: Architecture")]
pub(super) struct Origin<A> {
    pub(super) architecture: A,
    space: SearchSpace,
}

/// Returns architecture and search space that a search was built with.
pub(super) fn origin<A: Architecture>(json: &serde_json::Value) -> Result<Origin<A>> {
    crate::typed::from_value(json.clone())
        .map_err(|error| Error::invalid("origin", "architecture and space", error))
}

/// Checks the state of a checkpoint, and that the tensors in `folder` are those of the state.
///
/// # Errors
/// [`Error::Io`] or [`Error::File`] for a file of tensors that cannot be read; [`Error::Invalid`],
/// [`Error::Candidates`], [`Error::Shape`] or [`Error::Unknown`] with the first part that does not
/// fit.
pub(super) fn check<A: Architecture>(state: &State<A>, folder: &Path) -> Result<()> {
    state.options.check()?;
    check_counts(state)?;
    let origin: Origin<A> = origin(&state.origin)?;
    check_architecture(state, &origin)?;
    expect_equal(
        "number of dimensions",
        origin.space.dimensions.len(),
        state.space.dimensions.len(),
    )?;
    expect_equal(
        "number of dimensions with a state",
        state.space.dimensions.len(),
        state.dimensions.len(),
    )?;
    let declared = declared(origin.space).dimensions;
    let own = state.space.dimensions.iter().zip(&state.dimensions);
    for ((dimension, record), declared) in own.zip(&declared) {
        check_dimension(dimension, declared)?;
        check_record(&dimension.name, record, &dimension.candidates, &declared.candidates)?;
    }
    if let Some(latency) = &state.latency {
        latency.expect_architecture(&origin.architecture)?;
        latency.expect_space(&state.space)?;
    }
    check_phase(state)?;
    check_tensors(state, &folder.join(TENSORS))
}

fn expect_equal<T: PartialEq + ToString>(name: &str, expected: T, actual: T) -> Result<()> {
    match expected == actual {
        true => Ok(()),
        false => Err(Error::invalid(name, expected.to_string(), actual)),
    }
}

fn expect_at_most(name: &str, most: u64, actual: u64) -> Result<()> {
    match actual <= most {
        true => Ok(()),
        false => Err(Error::invalid(name, format!("at most {most}"), actual)),
    }
}

fn check_counts<A>(state: &State<A>) -> Result<()> {
    let counts = state.non_finite;
    expect_at_most("step", state.options.total_steps, state.step)?;
    expect_at_most("skipped steps", MOST, counts.skipped)?;
    expect_at_most("skipped steps in a row", counts.skipped, counts.in_a_row)?;
    expect_at_most("reported skipped steps", counts.skipped, counts.reported)?;
    expect_at_most("updates of the EMA", state.step, state.ema_updates)?;
    let dimensions = state.space.dimensions.len() as u64;
    expect_at_most("dimensions decided by projection", dimensions, state.projected as u64)?;
    for (name, updates) in &state.updates {
        expect_at_most(&format!("updates of {name}"), state.step, *updates)?;
    }
    for limit in &state.limits {
        if !(limit.limit.is_finite() && limit.limit > 0.0) {
            return Err(Error::invalid("budget", "finite and positive", limit.limit));
        }
    }
    Ok(())
}

/// The architecture is that of the beginning at the present sizes, and the cost model's dense sizes
/// are those of the beginning.
fn check_architecture<A: Architecture>(state: &State<A>, origin: &Origin<A>) -> Result<()> {
    let json = |architecture: &A| {
        serde_json::to_string(architecture)
            .map_err(|error| Error::invalid("architecture", "serialisable as JSON", error))
    };
    let resized = match origin.architecture.resized(&state.space.full_sizes()) {
        Err(Error::Unsupported { .. }) => origin.architecture.clone(),
        resized => resized?,
    };
    expect_equal("architecture", json(&resized)?, json(&state.architecture)?)?;
    if state.dense != origin.architecture.cost_model().dense {
        let expected = "those of the architecture that the search was built with";
        return Err(Error::invalid("dense sizes", expected, "others"));
    }
    Ok(())
}

/// A dimension is that of the beginning, with the candidates that fit into its present size.
fn check_dimension(present: &Dimension, declared: &Dimension) -> Result<()> {
    let name = &present.name;
    let full = present.candidates.full();
    let narrowed = match full == declared.candidates.full() {
        true => declared.candidates.clone(),
        false => declared.candidates.narrowed(full)?.0,
    };
    let most = declared.candidates.full();
    if full.heads > most.heads || full.channels > most.channels {
        let name = format!("size of {name}");
        return Err(Error::invalid(name, format!("within {most:?}"), format!("{full:?}")));
    }
    let expected = Dimension { candidates: narrowed, ..declared.clone() };
    if *present == expected {
        return Ok(());
    }
    let (expected, actual) = (format!("{expected:?}"), format!("{present:?}"));
    Err(Error::invalid(format!("dimension {name}"), expected, actual))
}

fn check_record(
    name: &str,
    record: &DimensionRecord,
    present: &Candidates,
    declared: &Candidates,
) -> Result<()> {
    expect_equal(&format!("active flags of {name}"), present.len(), record.active.len())?;
    let count = record.active.iter().filter(|active| **active).count();
    if count == 0 {
        return Err(Error::invalid(format!("active candidates of {name}"), "at least one", 0));
    }
    let at_start = record.candidates_at_start;
    expect_equal(&format!("candidates at start of {name}"), declared.len(), at_start)?;
    let what = format!("units of {name} in the dense network");
    check_units(&what, &record.origin, present.full(), declared.full())?;
    let Some(fade_out) = &record.fade_out else { return Ok(()) };
    let (size, full) = (fade_out.size, present.full());
    if !present.may_become(size) {
        let name = format!("size of {name} after its fade-out");
        return Err(Error::invalid(name, format!("within {full:?}"), format!("{size:?}")));
    }
    check_units(&format!("kept units of {name}"), &fade_out.kept, size, full)
}

/// Checks the flat indices of `size.heads × size.channels` distinct units among those of a dimension
/// of size `full`: each head's units are units of one head.
fn check_units(what: &str, units: &[i64], size: Size, full: Size) -> Result<()> {
    let expected = i128::from(size.heads) * i128::from(size.channels);
    expect_equal(&format!("number of {what}"), expected, units.len() as i128)?;
    let all = i128::from(full.heads) * i128::from(full.channels);
    let beyond = units.iter().find(|unit| !(0..all).contains(&i128::from(**unit)));
    if let Some(unit) = beyond {
        return Err(Error::invalid(what, format!("from 0 to {}", all - 1), unit));
    }
    let distinct: BTreeSet<&i64> = units.iter().collect();
    expect_equal(&format!("distinct {what}"), units.len(), distinct.len())?;
    if units.is_empty() {
        return Ok(());
    }
    let head = |unit: &i64| unit / full.channels;
    let heads = units.chunks(usize::try_from(size.channels).unwrap_or(usize::MAX));
    let mixed = heads.clone().find(|own| own.iter().any(|unit| head(unit) != head(&own[0])));
    match mixed {
        None => Ok(()),
        Some(own) => Err(Error::invalid(what, "those of one head in each row", format!("{own:?}"))),
    }
}

fn check_phase<A>(state: &State<A>) -> Result<()> {
    let searching = state.phase == Phase::Search;
    let open = state
        .dimensions
        .iter()
        .find(|record| record.active.iter().filter(|active| **active).count() > 1);
    if searching && state.dimensions.is_empty() {
        return Err(Error::invalid("phase", "finetune, without a dimension to search", "search"));
    }
    if !searching && open.is_some() {
        return Err(Error::invalid("phase", "search, with undecided dimensions", "finetune"));
    }
    expect_equal("pmim", searching && state.options.pmim.is_some(), state.pmim)
}
