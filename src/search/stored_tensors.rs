//! Consistency of a checkpoint's tensors with its state: names, shapes and types, by the header.

use super::consistency::origin;
use super::evidence::WINDOW;
use super::snapshot::State;
use crate::components::TeacherSource;
use crate::models::{Architecture, Shapes};
use crate::supernet::{DimensionState, Supernet};
use crate::tensors::{read_header, Dtype, HeaderFault, Metadata};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

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

/// Checks that the tensors in a file are those of the state.
///
/// # Errors
/// [`Error::Io`] or [`Error::File`] for a file that cannot be read; [`Error::Invalid`],
/// [`Error::Shape`] or [`Error::Unknown`] with the first tensor that does not fit.
pub(super) fn check_tensors<A: Architecture>(state: &State<A>, path: &Path) -> Result<()> {
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
    add_dense(state, &header, &mut expected)?;
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

/// Adds the weights of the dense network, if it teaches: all of them, or none.
fn add_dense<A: Architecture>(
    state: &State<A>,
    header: &Metadata,
    expected: &mut Expected,
) -> Result<()> {
    let distillation = state.options.training.distillation;
    let teaches = distillation.is_some_and(|own| own.teacher == TeacherSource::Dense);
    if teaches && header.tensors().keys().any(|name| name.starts_with("dense/")) {
        let variables = origin::<A>(&state.origin)?.architecture.variables()?;
        let dense = variables.into_iter().map(|(name, shape)| (format!("dense/{name}"), shape));
        expected.tensors.extend(dense);
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
    let may_be_buffer = name.starts_with("weight/") || name.starts_with("dense/");
    if float || (buffer && may_be_buffer) {
        return Ok(());
    }
    let actual = format!("{dtype:?}").to_lowercase();
    Err(Error::invalid(format!("type of {name}"), "f32", actual))
}
