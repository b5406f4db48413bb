//! Runs properties, and says what broke.

use crate::oracle::Units;
use crate::space::ActiveSet;
use crate::Error;
use ndarray::Array2;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use std::fmt::Debug;
use tch::{Device, Kind, Tensor};

/// What a property says of one case.
pub type Verdict = Result<(), TestCaseError>;

/// The smallest case found in which an implementation breaks a property.
#[derive(Debug, thiserror::Error)]
#[error("{property}: {reason}\nsmallest case found: {case}")]
pub struct Counterexample {
    /// The property, in words.
    pub property: &'static str,
    /// Expected and found.
    pub reason: String,
    /// The shrunk input.
    pub case: String,
}

/// Shrinking goes part by part and can get stuck, so a failure is looked for from several starts.
const STARTS: usize = 8;

/// Tries a property on `cases` random inputs; fails with the smallest counterexample.
pub(super) fn run<T: Debug>(
    property: &'static str,
    cases: u32,
    strategy: impl Strategy<Value = T>,
    holds: impl Fn(T) -> Verdict,
) -> Result<(), Counterexample> {
    let attempt = || attempt(property, cases, &strategy, &holds).err();
    let Some(first) = attempt() else { return Ok(()) };
    let others = (1..STARTS).filter_map(|_| attempt());
    Err(others
        .fold(first, |best, other| if other.case.len() < best.case.len() { other } else { best }))
}

fn attempt<T: Debug>(
    property: &'static str,
    cases: u32,
    strategy: &impl Strategy<Value = T>,
    holds: &impl Fn(T) -> Verdict,
) -> Result<(), Counterexample> {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(strategy, holds).map_err(|error| match error {
        TestError::Fail(reason, case) => {
            Counterexample { property, reason: reason.message().into(), case: format!("{case:?}") }
        }
        TestError::Abort(reason) => {
            Counterexample { property, reason: reason.message().into(), case: "none".into() }
        }
    })
}

/// An error of the crate or of libtorch breaks a property too.
pub(super) fn failed(error: impl Into<Error>) -> TestCaseError {
    let error: Error = error.into();
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    TestCaseError::fail(format!("{error}{}", source.unwrap_or_default()))
}

/// An array on the device.
pub(super) fn tensor(values: &Array2<f64>, kind: Kind, device: Device) -> crate::Result<Tensor> {
    let flat: Vec<f64> = values.iter().copied().collect();
    let shape = [values.nrows() as i64, values.ncols() as i64];
    // On the host first: not every device knows f64.
    Ok(Tensor::f_from_slice(&flat)?.f_view(shape)?.f_to_kind(kind)?.f_to_device(device)?)
}

/// The active candidates of some units, on the device.
pub(super) fn active_set(units: &Units, device: Device) -> crate::Result<ActiveSet> {
    ActiveSet::new(units.candidates(), units.active().iter().copied().collect(), device)
}

/// Gradients of a scalar; zeros where it does not depend on an input.
pub(super) fn gradients(of: &Tensor, inputs: &[&Tensor]) -> crate::Result<Vec<Tensor>> {
    if !of.requires_grad() {
        return inputs.iter().map(|input| Ok(input.f_zeros_like()?)).collect();
    }
    let found = Tensor::f_run_backward(&[of], inputs, true, false)?;
    let pairs = found.into_iter().zip(inputs);
    pairs.map(|(g, input)| if g.defined() { Ok(g) } else { Ok(input.f_zeros_like()?) }).collect()
}

/// A copy that collects gradients.
pub(super) fn leaf(tensor: &Tensor) -> crate::Result<Tensor> {
    Ok(tensor.f_detach_copy()?.f_set_requires_grad(true)?)
}

/// All numbers within `allowed` of the expected ones.
pub(super) fn expect_close(
    what: &str,
    actual: &[f64],
    expected: &[f64],
    allowed: impl Fn(f64) -> f64,
) -> Verdict {
    if actual.len() != expected.len() {
        let (actual, expected) = (actual.len(), expected.len());
        return Err(TestCaseError::fail(format!("{actual} numbers in {what}, not {expected}")));
    }
    for (at, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let excess = (a - e).abs() - allowed(e);
        if excess > 0.0 || excess.is_nan() {
            let words = format!("{what} of unit {at} is {a}, expected {e}");
            return Err(TestCaseError::fail(words));
        }
    }
    Ok(())
}

/// All numbers finite.
pub(super) fn expect_finite(what: &str, values: &[f64]) -> Verdict {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(TestCaseError::fail(format!("{what} {at} is {}", values[at]))),
    }
}
