//! Ranges of options: each is stated once, in a table, and checked at the boundary.

use crate::{Error, Result};
use std::fmt::{Display, Formatter};

/// Optimiser steps: far above any training, and low enough that no sum or product of steps
/// overflows.
pub(crate) const STEPS: Range<u64> = Range::closed(0, 1 << 40);
/// Interval in optimiser steps.
pub(crate) const INTERVAL: Range<u64> = Range::closed(1, 1 << 40);
/// Weights of losses, learning rates: products with f32 stay finite.
pub(crate) const RATE: Range<f64> = Range::closed(0.0, 1e6);
/// Probabilities and shares.
pub(crate) const SHARE: Range<f64> = Range::closed(0.0, 1.0);
/// Shares below the whole.
pub(crate) const PART: Range<f64> = Range::below(0.0, 1.0);
/// A share that is not nothing.
pub(crate) const POSITIVE_SHARE: Range<f64> = Range::above(0.0, 1.0);
/// Scales that are divided by: neither they nor their inverses overflow in f32.
pub(crate) const SCALE: Range<f64> = Range::closed(1e-30, 1e30);

/// Allowed values of an option. NaN is in no range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range<T> {
    least: T,
    most: T,
    /// Whether `least` and `most` are allowed themselves.
    includes: [bool; 2],
}

impl<T: Number> Range<T> {
    /// [least, most].
    pub(crate) const fn closed(least: T, most: T) -> Self {
        Self { least, most, includes: [true, true] }
    }

    /// [least, most).
    pub(crate) const fn below(least: T, most: T) -> Self {
        Self { least, most, includes: [true, false] }
    }

    /// (least, most].
    pub(crate) const fn above(least: T, most: T) -> Self {
        Self { least, most, includes: [false, true] }
    }

    /// Refuses a value outside the range, as the option `name`.
    pub(crate) fn check(self, name: impl Into<String>, value: T) -> Result<()> {
        let [least, most] = self.includes;
        let above = if least { value >= self.least } else { value > self.least };
        let below = if most { value <= self.most } else { value < self.most };
        match above && below {
            true => Ok(()),
            false => Err(Error::invalid(name, self.to_string(), value.text())),
        }
    }
}

/// `within [1, 4096]`.
impl<T: Number> Display for Range<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let [least, most] = self.includes;
        let (open, close) = (if least { '[' } else { '(' }, if most { ']' } else { ')' });
        write!(f, "within {open}{}, {}{close}", self.least.text(), self.most.text())
    }
}

/// Checks a table of options: name, value, range.
pub(crate) fn check_all<T: Number, const N: usize>(table: [(&str, T, Range<T>); N]) -> Result<()> {
    table.into_iter().try_for_each(|(name, value, range)| range.check(name, value))
}

/// A number as it is written in a message.
pub(crate) trait Number: Copy + PartialOrd {
    fn text(self) -> String;
}

impl Number for f64 {
    fn text(self) -> String {
        match self.abs() {
            size if size != 0.0 && size.is_finite() && !(1e-4..1e5).contains(&size) => {
                format!("{self:e}")
            }
            _ => self.to_string(),
        }
    }
}

impl Number for i64 {
    fn text(self) -> String {
        self.to_string()
    }
}

impl Number for u64 {
    fn text(self) -> String {
        self.to_string()
    }
}

impl Number for usize {
    fn text(self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_holds_its_closed_ends_and_neither_open_ends_nor_nan() {
        let within = |range: Range<f64>, value| range.check("option", value).is_ok();
        assert!(within(SHARE, 0.0) && within(SHARE, 1.0) && !within(SHARE, 1.0 + f64::EPSILON));
        assert!(within(PART, 0.0) && !within(PART, 1.0));
        assert!(!within(POSITIVE_SHARE, 0.0) && within(POSITIVE_SHARE, f64::MIN_POSITIVE));
        for range in [SHARE, PART, POSITIVE_SHARE, RATE, SCALE] {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e308] {
                assert!(!within(range, value), "{value} in {range}");
            }
        }
    }

    #[test]
    fn value_out_of_range_is_named_with_the_range() {
        let text = |refused: Result<()>| refused.err().map(|error| error.to_string());
        let refused = text(PART.check("pruning.drop_share", 2.0));
        assert_eq!(refused.as_deref(), Some("pruning.drop_share: got 2, expected within [0, 1)"));
        let refused = text(RATE.check("train.lr", f64::NAN));
        assert_eq!(refused.as_deref(), Some("train.lr: got NaN, expected within [0, 1e6]"));
        let refused = text(check_all([("batch", 0i64, Range::closed(1, 4096))]));
        assert_eq!(refused, text(Range::closed(1i64, 4096).check("batch", 0)));
        assert_eq!(refused.as_deref(), Some("batch: got 0, expected within [1, 4096]"));
    }
}
