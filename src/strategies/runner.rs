//! Runs properties on random inputs, and the comparisons that properties are made of.

use crate::autograd::with_grad;
use crate::oracle::Units;
use crate::space::ActiveSet;
use crate::Error;
use ndarray::Array2;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// Result of a property in one case: `Err` where it does not hold.
pub type Verdict = Result<(), TestCaseError>;

/// Smallest input found for which a property does not hold.
#[derive(Debug, thiserror::Error)]
#[error("property does not hold: {property}: {reason}\nsmallest case found: {case}")]
pub struct Counterexample {
    /// Name of the property.
    pub property: &'static str,
    /// Value found and value expected.
    pub reason: String,
    /// Shrunk input, in its `Debug` format.
    pub case: String,
}

impl Counterexample {
    /// A property that could not be checked.
    pub(super) fn without_case(property: &'static str, error: &Error) -> Self {
        Self { property, reason: error.to_string(), case: "none".into() }
    }
}

/// Searches for a smallest counterexample: shrinking ends in a local minimum, which differs from
/// start to start.
const STARTS: usize = 8;

/// Checks a property on `cases` random inputs; returns the smallest counterexample as the error.
pub(super) fn run<T: Debug>(
    property: &'static str,
    cases: u32,
    strategy: impl Strategy<Value = T>,
    holds: impl Fn(T) -> Verdict,
) -> Result<(), Counterexample> {
    let attempt = || run_once(property, cases, &strategy, &holds).err();
    let Some(first) = attempt() else { return Ok(()) };
    let others = (1..STARTS).filter_map(|_| attempt());
    Err(others
        .fold(first, |best, other| if other.case.len() < best.case.len() { other } else { best }))
}

/// The same from a single start, for cases that take long.
pub(super) fn run_once<T: Debug>(
    property: &'static str,
    cases: u32,
    strategy: &impl Strategy<Value = T>,
    holds: &impl Fn(T) -> Verdict,
) -> Result<(), Counterexample> {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let checked = with_grad(|| TestRunner::new(config).run(strategy, holds));
    checked.map_err(|error| match error {
        TestError::Fail(reason, case) => {
            Counterexample { property, reason: reason.message().into(), case: format!("{case:?}") }
        }
        TestError::Abort(reason) => {
            Counterexample { property, reason: reason.message().into(), case: "none".into() }
        }
    })
}

/// Returns an error of the crate as a failure of the property, with its cause.
pub(super) fn failed(error: impl Into<Error>) -> TestCaseError {
    let error: Error = error.into();
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    TestCaseError::fail(format!("{error}{}", source.unwrap_or_default()))
}

/// Returns an array as a tensor of a kind on a device.
pub(super) fn tensor(values: &Array2<f64>, kind: Kind, device: Device) -> crate::Result<Tensor> {
    let flat: Vec<f64> = values.iter().copied().collect();
    let shape = [values.nrows() as i64, values.ncols() as i64];
    // Converted on the host: not every device supports f64.
    Ok(Tensor::f_from_slice(&flat)?.f_view(shape)?.f_to_kind(kind)?.f_to_device(device)?)
}

/// Returns the active candidates of `units` on a device.
pub(super) fn active_set(units: &Units, device: Device) -> crate::Result<ActiveSet> {
    ActiveSet::new(units.candidates(), units.active().iter().copied().collect(), device)
}

/// Returns the gradients of a scalar; zeros for an input that it does not depend on.
pub(super) fn gradients(of: &Tensor, inputs: &[&Tensor]) -> crate::Result<Vec<Tensor>> {
    if !of.requires_grad() {
        return inputs.iter().map(|input| Ok(input.f_zeros_like()?)).collect();
    }
    let found = crate::autograd::gradients("loss", of, inputs, true)?;
    let pairs = found.into_iter().zip(inputs);
    pairs.map(|(g, input)| if g.defined() { Ok(g) } else { Ok(input.f_zeros_like()?) }).collect()
}

/// Returns a copy that requires gradients.
pub(super) fn leaf(tensor: &Tensor) -> crate::Result<Tensor> {
    Ok(tensor.f_detach_copy()?.f_set_requires_grad(true)?)
}

/// Checks that every number is within `allowed` of the expected one.
pub(super) fn expect_close(
    what: &str,
    actual: &[f64],
    expected: &[f64],
    allowed: impl Fn(f64) -> f64,
) -> Verdict {
    if actual.len() != expected.len() {
        let (actual, expected) = (actual.len(), expected.len());
        return Err(TestCaseError::fail(format!(
            "length of {what}: got {actual}, expected {expected}"
        )));
    }
    for (at, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let excess = (a - e).abs() - allowed(e);
        if excess > 0.0 || excess.is_nan() {
            let reason = format!("{what} {at}: got {a}, expected {e}");
            return Err(TestCaseError::fail(reason));
        }
    }
    Ok(())
}

/// Checks that every number is finite.
pub(super) fn expect_finite(what: &str, values: &[f64]) -> Verdict {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(TestCaseError::fail(format!(
            "{what} {at}: got {}, expected a finite number",
            values[at]
        ))),
    }
}

/// Checks a condition.
pub(super) fn expect_true(condition: bool, reason: impl FnOnce() -> String) -> Verdict {
    match condition {
        true => Ok(()),
        false => Err(TestCaseError::fail(reason())),
    }
}

/// Returns the result of `draw`, which draws from libtorch's generator. Checks in other threads wait
/// meanwhile: the process has one generator.
pub(super) fn drawing<T>(draw: impl FnOnce() -> T) -> T {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _lock = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    draw()
}
