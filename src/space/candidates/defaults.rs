//! Default candidates of the dimensions of a transformer.

use super::{expect_units, Candidates, Size};
use crate::Result;

impl Candidates {
    /// Returns the default candidates of an embedding of width d = `units`: d/2 to d in steps of d/32; from
    /// d = 128 on in multiples of 8, in steps of 8, and from d = 512 on of 16.
    ///
    /// A matrix product in half precision whose sides are no multiples of 8 is about three times slower on
    /// NVIDIA's tensor cores (docs/benchmarks.md). The paper does not list its candidates.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) unless `units` is within 1..=2²⁰.
    pub fn embedding(units: i64) -> Result<Self> {
        expect_units(1, units)?;
        let step = match units {
            512.. => 16,
            128.. => 8,
            _ => units / 32,
        };
        let multiple = if units >= 128 { 8 } else { 1 };
        Self::flat(units, ladder(multiple_from(units / 2, multiple), units, step))
    }

    /// Returns the default candidates of an MLP of hidden width h = `units`: h/8 to h in steps of
    /// h/8; from h = 256 on in multiples of 8.
    ///
    /// Pruning most hidden neurons raises the loss little. Where the least candidate is h/4, a search narrows other
    /// dimensions instead (docs/quality.md).
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) unless `units` is within 1..=2²⁰.
    pub fn hidden(units: i64) -> Result<Self> {
        expect_units(1, units)?;
        let multiple = if units >= 256 { 8 } else { 1 };
        let step = multiple_from(units / 8, multiple);
        Self::flat(units, ladder(step, units, step))
    }

    /// Returns the default candidates of an attention of H = `heads` heads of D = `channels`
    /// channels: head counts 2, 4, …, H with channels D/4 to D in steps of D/8; from D = 32 on in
    /// multiples of 8.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) unless `heads`, `channels` and their product are within 1..=2²⁰.
    pub fn attention(heads: i64, channels: i64) -> Result<Self> {
        Self::attention_of_units(Size { heads, channels }, 1)
    }

    /// Returns the default candidates of an attention of so many heads and units of a head, where a
    /// unit is 1, 2, 4 or 8 channels that are pruned together: their widths in channels are those of
    /// [`attention`](Self::attention).
    pub(crate) fn attention_of_units(size: Size, unit: i64) -> Result<Self> {
        let Size { heads, channels: units } = size;
        expect_units(heads, units)?;
        let multiple = if units.saturating_mul(unit) >= 32 { (8 / unit).max(1) } else { 1 };
        let step = |share| multiple_from(units / share, multiple);
        Self::grid(heads, units, ladder(2.min(heads), heads, 2), ladder(step(4), units, step(8)))
    }
}

/// Returns first, first + step, …, and `last` as the last number.
fn ladder(first: i64, last: i64, step: i64) -> Vec<i64> {
    let mut rungs: Vec<i64> = (first.max(1)..last).step_by(step.max(1) as usize).collect();
    rungs.push(last);
    rungs
}

/// Returns the least multiple of `multiple` that is at least `units`.
fn multiple_from(units: i64, multiple: i64) -> i64 {
    (units + multiple - 1) / multiple * multiple
}
