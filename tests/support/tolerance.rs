//! The one comparison of numbers.

use super::{numbers, TestResult};
use tch::Tensor;

/// How far a number may lie from the expected one: |a − e| ≤ absolute + relative·|e|.
///
/// A relative bound alone suits sums of positive numbers. Where terms cancel (gradients, logits),
/// small results carry the rounding of large terms: there the absolute part is a share of the
/// largest expected number, see [`of_scale`](Self::of_scale).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Allowed share of the expected number.
    pub relative: f64,
    /// Allowed whatever the expected number.
    pub absolute: f64,
}

impl Tolerance {
    /// A share of each number, and nothing more: zero has to be zero.
    pub const fn relative(relative: f64) -> Self {
        Self { relative, absolute: 0.0 }
    }

    /// A share of the largest of the expected numbers, for all of them.
    pub fn of_scale(share: f64, expected: &Tensor) -> TestResult<Self> {
        let scale = numbers(expected)?.iter().fold(0.0, |scale: f64, e| scale.max(e.abs()));
        Ok(Self { relative: 0.0, absolute: share * scale })
    }

    /// What may separate a number from `expected`.
    pub fn allowed(self, expected: f64) -> f64 {
        self.absolute + self.relative * expected.abs()
    }

    /// By how much a number is too far away; not positive where it is close enough.
    fn excess(self, actual: f64, expected: f64) -> f64 {
        match (actual - expected).abs() - self.allowed(expected) {
            _ if actual == expected => f64::NEG_INFINITY,
            excess if excess.is_nan() => f64::INFINITY,
            excess => excess,
        }
    }

    /// Compares two tensors of one shape.
    ///
    /// # Errors
    /// Says where the worst number is, what it is and what it should be; a NaN is the worst.
    pub fn check(self, what: &str, actual: &Tensor, expected: &Tensor) -> TestResult {
        if actual.size() != expected.size() {
            let (actual, expected) = (actual.size(), expected.size());
            return Err(format!("{what}: shape {actual:?}, expected {expected:?}").into());
        }
        self.check_numbers(what, &actual.size(), &numbers(actual)?, &numbers(expected)?)
    }

    /// Compares a tensor with numbers in memory order.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_against(self, what: &str, actual: &Tensor, expected: &[f64]) -> TestResult {
        self.check_numbers(what, &actual.size(), &numbers(actual)?, expected)
    }

    /// Compares a tensor with an array of the oracle.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_array<D: ndarray::Dimension>(
        self,
        what: &str,
        actual: &Tensor,
        expected: &ndarray::Array<f64, D>,
    ) -> TestResult {
        let shape: Vec<i64> = expected.shape().iter().map(|&side| side as i64).collect();
        if actual.size() != shape {
            return Err(format!("{what}: shape {:?}, expected {shape:?}", actual.size()).into());
        }
        self.check_against(what, actual, &expected.iter().copied().collect::<Vec<_>>())
    }

    /// Compares one number.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_number(self, what: &str, actual: f64, expected: f64) -> TestResult {
        self.check_numbers(what, &[], &[actual], &[expected])
    }

    fn check_numbers(
        self,
        what: &str,
        shape: &[i64],
        actual: &[f64],
        expected: &[f64],
    ) -> TestResult {
        if actual.len() != expected.len() {
            let (actual, expected) = (actual.len(), expected.len());
            return Err(format!("{what}: {actual} numbers, expected {expected}").into());
        }
        let pairs = || actual.iter().zip(expected);
        let excess = pairs().map(|(&a, &e)| self.excess(a, e));
        let Some((at, worst)) = excess.enumerate().max_by(|l, r| l.1.total_cmp(&r.1)) else {
            return Err(format!("{what}: nothing to compare").into());
        };
        if worst <= 0.0 {
            return Ok(());
        }
        let wrong = pairs().filter(|&(&a, &e)| self.excess(a, e) > 0.0).count();
        let (a, e, total) = (actual[at], expected[at], actual.len());
        Err(format!(
            "{what}: {wrong} of {total} numbers differ, worst at {:?}: {a:e}, expected {e:e}; \
             they differ by {:e}, allowed {:e} = {:e} + {:e}·|expected|",
            place(at, shape),
            (a - e).abs(),
            self.allowed(e),
            self.absolute,
            self.relative,
        )
        .into())
    }
}

/// The index along every axis of a place in memory order.
fn place(mut at: usize, shape: &[i64]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&length| {
            let along = at % length as usize;
            at /= length as usize;
            along
        })
        .collect();
    index.reverse();
    index
}
