//! Checks of a checkpoint before memory is taken for it: its state against itself, and against the
//! header of its tensors.

use super::events::Phase;
use super::evidence::WINDOW;
use super::snapshot::{DimensionRecord, State, TENSORS};
use crate::models::{Architecture, Shapes};
use crate::space::{Candidates, Dimension, SearchSpace, Size};
use crate::supernet::{declared, DimensionState, Supernet};
use crate::tensors::{read_header, Dtype, HeaderFault, Metadata};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Highest number that is taken for a count: all up to it are exact as f64.
const MOST: u64 = 1 << 53;

/// Architecture and search space that a search was built with.
#[derive(Deserialize)]
#[serde(bound = "A: Architecture")]
struct Origin<A> {
    architecture: A,
    space: SearchSpace,
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
    let origin: Origin<A> = crate::typed::from_value(state.origin.clone())
        .map_err(|error| Error::invalid("origin", "architecture and space", error))?;
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
    let within =
        (1..=full.heads).contains(&size.heads) && (1..=full.channels).contains(&size.channels);
    if !within {
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

/// The tensors that a state has, with their shapes.
struct Expected {
    tensors: Shapes,
    /// Parameters of the optimiser and the EMA.
    parameters: Shapes,
}

impl Expected {
    fn new<A: Architecture>(state: &State<A>) -> Result<Self> {
        let parameters = Supernet::shapes(&state.architecture, state.pmim)?;
        let weights =
            parameters.iter().map(|(name, shape)| (format!("weight/{name}"), shape.clone()));
        let mut expected = Self { tensors: weights.collect(), parameters };
        for (dimension, record) in state.space.dimensions.iter().zip(&state.dimensions) {
            let (name, candidates) = (&dimension.name, &dimension.candidates);
            let (units, alpha) = (candidates.unit_shape().to_vec(), candidates.shape().to_vec());
            expected.parameters.insert(DimensionState::score_name_of(name), units.clone());
            expected.parameters.insert(DimensionState::alpha_name_of(name), alpha.clone());
            if record.fade_out.is_some() {
                expected.tensors.insert(format!("from/{name}"), units.clone());
            }
            expected.tensors.insert(format!("score/{name}"), units);
            expected.tensors.insert(format!("alpha/{name}"), alpha);
        }
        for name in state.updates.keys() {
            let shape = expected.parameter(name)?.clone();
            expected.tensors.insert(format!("first/{name}"), shape.clone());
            expected.tensors.insert(format!("second/{name}"), shape);
        }
        Ok(expected)
    }

    fn parameter(&self, name: &str) -> Result<&Vec<i64>> {
        let known = self.parameters.keys();
        self.parameters.get(name).ok_or_else(|| Error::unknown("parameter", name, known))
    }
}

fn check_tensors<A: Architecture>(state: &State<A>, path: &Path) -> Result<()> {
    let mut expected = Expected::new(state)?;
    let header = read_header(path).map_err(|fault| match fault {
        HeaderFault::Io(source) => Error::io("read", path, source),
        HeaderFault::Contents { expected, found } => {
            Error::file(path, format!("safetensors header: got {found}, expected {expected}"))
        }
        HeaderFault::Length { expected, actual } => {
            Error::file(path, format!("length: got {actual} bytes, expected {expected}"))
        }
    })?;
    add_optional(state, &header, &mut expected)?;
    let stored: BTreeMap<String, _> = header.tensors().into_iter().collect();
    if let Some(name) = stored.keys().find(|name| !expected.tensors.contains_key(*name)) {
        let expected = "none, because the state has no such part";
        return Err(Error::invalid(format!("tensor {name}"), expected, "one"));
    }
    for (name, shape) in &expected.tensors {
        let info = stored.get(name).ok_or_else(|| Error::unknown("tensor", name, stored.keys()))?;
        let actual: Vec<i64> =
            info.shape.iter().map(|&side| i64::try_from(side).unwrap_or(i64::MAX)).collect();
        if actual != *shape {
            let (operation, expected) = ("resume", shape.clone());
            return Err(Error::Shape { operation, name: name.clone(), expected, actual });
        }
        check_type(name, info.dtype)?;
    }
    Ok(())
}

/// Adds the tensors that a state may have: sums of pruned importance, and the EMA.
fn add_optional<A>(state: &State<A>, header: &Metadata, expected: &mut Expected) -> Result<()> {
    for dimension in &state.space.dimensions {
        let name = format!("pruned_importance/{}", dimension.name);
        if header.info(&name).is_some() {
            expected.tensors.insert(name, vec![dimension.candidates.heads()]);
        }
    }
    add_evidence(state, header, expected)?;
    if state.options.training.ema_decay.is_none() {
        return Ok(());
    }
    for name in header.tensors().keys().filter_map(|name| name.strip_prefix("ema/")) {
        let shape = expected.parameter(name)?.clone();
        expected.tensors.insert(format!("ema/{name}"), shape);
    }
    Ok(())
}

/// Adds the effects of units: of every dimension, over the same number of steps, or of none.
fn add_evidence<A>(state: &State<A>, header: &Metadata, expected: &mut Expected) -> Result<()> {
    let stored = |name: &str| header.info(&format!("evidence/{name}"));
    let Some(first) = state.space.dimensions.first().and_then(|own| stored(&own.name)) else {
        return Ok(());
    };
    let steps = first.shape.first().map_or(0, |&steps| i64::try_from(steps).unwrap_or(i64::MAX));
    if !(1..=WINDOW).contains(&steps) {
        return Err(Error::invalid("steps of the evidence", format!("from 1 to {WINDOW}"), steps));
    }
    for dimension in &state.space.dimensions {
        let [heads, channels] = dimension.candidates.unit_shape();
        let name = format!("evidence/{}", dimension.name);
        expected.tensors.insert(name, vec![steps, heads, channels]);
    }
    Ok(())
}

/// All is f32, except buffers of integers.
fn check_type(name: &str, dtype: Dtype) -> Result<()> {
    let float = matches!(dtype, Dtype::F32);
    let buffer =
        matches!(dtype, Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::BOOL);
    if float || (buffer && name.starts_with("weight/")) {
        return Ok(());
    }
    let actual = format!("{dtype:?}").to_lowercase();
    Err(Error::invalid(format!("type of {name}"), "f32", actual))
}
