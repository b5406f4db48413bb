//! Candidates at which the latency steps.

use super::LatencyModel;
use crate::space::{SearchSpace, Size, Sizes};
use crate::Result;

/// Least latency that the units between two candidates save, as a share of what as many units save on
/// average along their axis.
const STEP: f64 = 0.5;

impl LatencyModel {
    /// Returns a search space with those candidates alone at which the predicted latency steps.
    ///
    /// Along the heads of a dimension, all channels dense, and along its channels, all heads dense: from the largest
    /// candidate on, one is kept if, compared with the next larger one that is kept, it saves at least half of what as many
    /// units save on average from the largest candidate to the smallest. Where a device computes 49 to 64 channels in the
    /// same time, 64 is kept of them. The largest and the smallest are, too.
    ///
    /// # Errors
    /// [`LatencyError::Beyond`](crate::error::LatencyError::Beyond) for a candidate beyond the measured sizes;
    /// [`Error::Unknown`](crate::Error::Unknown) for a dimension that was not measured.
    pub fn stepped(&self, mut space: SearchSpace) -> Result<SearchSpace> {
        self.expect_space(&space)?;
        // Of a space with fewer dimensions than were measured, the others are dense.
        let mut dense = self.dense_sizes();
        dense.extend(space.full_sizes());
        for dimension in &mut space.dimensions {
            let (name, own) = (&dimension.name, &dimension.candidates);
            let full = own.full();
            let heads =
                self.steps(name, &dense, own.head_counts(), |heads| Size { heads, ..full })?;
            let widths =
                self.steps(name, &dense, own.widths(), |channels| Size { channels, ..full })?;
            dimension.candidates = own.on(heads, widths)?;
        }
        Ok(space)
    }

    /// The candidates along an axis at which the latency steps.
    fn steps(
        &self,
        name: &str,
        dense: &Sizes,
        candidates: &[i64],
        size: impl Fn(i64) -> Size,
    ) -> Result<Vec<i64>> {
        let at = |candidate: &i64| {
            let mut sizes = dense.clone();
            sizes.insert(name.into(), size(*candidate));
            Ok((*candidate, self.predict(&sizes)?))
        };
        let known: Vec<(i64, f64)> = candidates.iter().map(at).collect::<Result<_>>()?;
        Ok(stepping(&known))
    }
}

/// Of numbers of units, ascending, and their latencies: those at which the latency steps.
fn stepping(known: &[(i64, f64)]) -> Vec<i64> {
    let (Some(least), Some(most)) = (known.first(), known.last()) else { return Vec::new() };
    let each = (most.1 - least.1) / (most.0 - least.0).max(1) as f64;
    let (mut kept, mut above) = (vec![most.0], *most);
    for own in known.iter().rev().skip(1) {
        let average = each * (above.0 - own.0) as f64;
        let steps = each > 0.0 && above.1 - own.1 >= STEP * average;
        if steps || own.0 == least.0 {
            kept.push(own.0);
            above = *own;
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(units: impl Iterator<Item = i64>, latency: impl Fn(i64) -> f64) -> Vec<i64> {
        stepping(&units.map(|units| (units, latency(units))).collect::<Vec<_>>())
    }

    #[test]
    fn candidates_of_a_staircase_are_the_largest_of_each_step() {
        let steps = of((8..=64).step_by(8), |units| (units as f64 / 16.0).ceil());
        assert_eq!(steps, [8, 16, 32, 48, 64]);
    }

    #[test]
    fn candidates_of_a_line_are_all_kept_and_of_a_constant_the_ends() {
        let units = || (8..=64).step_by(8);
        assert_eq!(of(units(), |units| 3.0 + units as f64), units().collect::<Vec<_>>());
        assert_eq!(of(units(), |_| 3.0), [8, 64]);
        assert_eq!(of([5].into_iter(), |_| 3.0), [5]);
        assert!(of([].into_iter(), |_| 3.0).is_empty());
    }
}
