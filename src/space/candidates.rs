//! Candidate sizes of one dimension.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// One size of a dimension: how many heads, and how many channels each.
///
/// A flat dimension (embedding, hidden) is a grid with one head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Heads kept; 1 for a flat dimension.
    pub heads: i64,
    /// Channels kept in each head; the width of a flat dimension.
    pub channels: i64,
}

impl Size {
    /// A flat size.
    pub fn flat(width: i64) -> Self {
        Self { heads: 1, channels: width }
    }

    /// Units of this size: heads × channels.
    pub fn units(self) -> i64 {
        self.heads * self.channels
    }
}

/// The candidate sizes of a dimension: every pair of a head count and a channel width.
///
/// Candidates are numbered row by row, head counts outside, as α of shape `[A, B]` lies in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Candidates {
    heads: i64,
    channels: i64,
    head_counts: Vec<i64>,
    widths: Vec<i64>,
}

/// What a file may hold before it is checked.
#[derive(Deserialize)]
struct Unchecked {
    heads: i64,
    channels: i64,
    head_counts: Vec<i64>,
    widths: Vec<i64>,
}

impl TryFrom<Unchecked> for Candidates {
    type Error = Error;

    fn try_from(raw: Unchecked) -> Result<Self> {
        Self::grid(raw.heads, raw.channels, raw.head_counts, raw.widths)
    }
}

impl Candidates {
    /// Candidates of a flat dimension of `units` units.
    ///
    /// # Errors
    /// [`Error::Candidates`] unless `0 < w_1 < … < w_K ≤ units`.
    pub fn flat(units: i64, widths: Vec<i64>) -> Result<Self> {
        Self::grid(1, units, vec![1], widths)
    }

    /// Candidates of an attention grid of `heads` × `channels` units.
    ///
    /// # Errors
    /// [`Error::Candidates`] unless both lists are ascending, positive and within the grid.
    pub fn grid(
        heads: i64,
        channels: i64,
        head_counts: Vec<i64>,
        widths: Vec<i64>,
    ) -> Result<Self> {
        check("head counts", heads, &head_counts)?;
        check("channel widths", channels, &widths)?;
        Ok(Self { heads, channels, head_counts, widths })
    }

    /// From half the width to all of it, in steps of `min(d/32, 12)` (design 2.3, embedding).
    ///
    /// # Errors
    /// [`Error::Candidates`] if `units` is not positive.
    pub fn embedding(units: i64) -> Result<Self> {
        Self::flat(units, ladder((units / 2).max(1), units, (units / 32).clamp(1, 12)))
    }

    /// From a quarter of the width to all of it, in steps of `h/8` (design 2.3, hidden).
    ///
    /// # Errors
    /// [`Error::Candidates`] if `units` is not positive.
    pub fn hidden(units: i64) -> Result<Self> {
        Self::flat(units, ladder((units / 4).max(1), units, (units / 8).max(1)))
    }

    /// Head counts 2, 4, … up to all; channels from a quarter to all in steps of `D/8`.
    ///
    /// # Errors
    /// [`Error::Candidates`] if a side of the grid is not positive.
    pub fn attention(heads: i64, channels: i64) -> Result<Self> {
        let counts = ladder(2.min(heads), heads, 2);
        Self::grid(
            heads,
            channels,
            counts,
            ladder((channels / 4).max(1), channels, (channels / 8).max(1)),
        )
    }

    /// Heads of the grid; 1 for a flat dimension.
    pub fn heads(&self) -> i64 {
        self.heads
    }

    /// Channels of a head; the units of a flat dimension.
    pub fn channels(&self) -> i64 {
        self.channels
    }

    /// Candidate head counts, ascending.
    pub fn head_counts(&self) -> &[i64] {
        &self.head_counts
    }

    /// Candidate channel widths, ascending.
    pub fn widths(&self) -> &[i64] {
        &self.widths
    }

    /// Number of units: heads × channels.
    pub fn units(&self) -> i64 {
        self.heads * self.channels
    }

    /// Shape of the scores: `[heads, channels]`.
    pub fn unit_shape(&self) -> [i64; 2] {
        [self.heads, self.channels]
    }

    /// Shape of α: `[head counts, channel widths]`.
    pub fn shape(&self) -> [i64; 2] {
        [self.head_counts.len() as i64, self.widths.len() as i64]
    }

    /// Number of candidates.
    pub fn len(&self) -> usize {
        self.head_counts.len() * self.widths.len()
    }

    /// Never: a dimension has at least one candidate.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The full size.
    pub fn full(&self) -> Size {
        Size { heads: self.heads, channels: self.channels }
    }

    /// The size of the candidate with this number.
    ///
    /// # Panics
    /// If there is no such candidate.
    pub fn size(&self, candidate: usize) -> Size {
        let columns = self.widths.len();
        Size {
            heads: self.head_counts[candidate / columns],
            channels: self.widths[candidate % columns],
        }
    }

    /// The sizes of all candidates, in order.
    pub fn sizes(&self) -> impl Iterator<Item = Size> + '_ {
        (0..self.len()).map(|candidate| self.size(candidate))
    }

    /// Without the candidates smaller than `least`.
    ///
    /// # Errors
    /// [`Error::Candidates`] if none is left.
    pub fn at_least(&self, least: Size) -> Result<Self> {
        let from = |list: &[i64], least: i64| -> Vec<i64> {
            list.iter().copied().filter(|&value| value >= least).collect()
        };
        let (head_counts, widths) =
            (from(&self.head_counts, least.heads), from(&self.widths, least.channels));
        Self::grid(self.heads, self.channels, head_counts, widths)
    }

    /// The candidates that fit into a grid narrowed to `size`, and which of the old candidates they are.
    ///
    /// # Errors
    /// [`Error::Candidates`] if none fits.
    pub fn narrowed(&self, size: Size) -> Result<(Self, Vec<usize>)> {
        let within = |list: &[i64], most: i64| -> Vec<i64> {
            list.iter().copied().filter(|&value| value <= most).collect()
        };
        let candidates = Self::grid(
            size.heads,
            size.channels,
            within(&self.head_counts, size.heads),
            within(&self.widths, size.channels),
        )?;
        let kept = (0..self.len()).filter(|&candidate| {
            let old = self.size(candidate);
            old.heads <= size.heads && old.channels <= size.channels
        });
        Ok((candidates, kept.collect()))
    }
}

/// `first, first + step, …`, always ending with `last`.
fn ladder(first: i64, last: i64, step: i64) -> Vec<i64> {
    let mut rungs: Vec<i64> = (first..last).step_by(step.max(1) as usize).collect();
    rungs.push(last);
    rungs
}

fn check(name: &str, most: i64, candidates: &[i64]) -> Result<()> {
    let ascending = candidates.windows(2).all(|pair| pair[0] < pair[1]);
    let fits = candidates.first().is_some_and(|&least| least > 0)
        && candidates.last().is_some_and(|&largest| largest <= most);
    if ascending && fits {
        return Ok(());
    }
    Err(Error::Candidates {
        name: name.into(),
        expected: format!("ascending, at least one, within 1..={most}"),
        actual: candidates.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_candidates_of_deit_s() -> Result<()> {
        let embedding = Candidates::embedding(384)?;
        assert_eq!(embedding.widths()[..3], [192, 204, 216]);
        assert_eq!(embedding.len(), 17);
        let attention = Candidates::attention(6, 64)?;
        assert_eq!(attention.head_counts(), [2, 4, 6]);
        assert_eq!(attention.widths(), [16, 24, 32, 40, 48, 56, 64]);
        assert_eq!(Candidates::hidden(1536)?.widths(), [384, 576, 768, 960, 1152, 1344, 1536]);
        Ok(())
    }

    #[test]
    fn three_heads_keep_their_heads() -> Result<()> {
        assert_eq!(Candidates::attention(3, 64)?.head_counts(), [2, 3]);
        assert_eq!(Candidates::attention(1, 8)?.head_counts(), [1]);
        Ok(())
    }

    #[test]
    fn unsorted_wide_and_empty_candidates_are_refused() {
        for widths in [vec![4, 2], vec![2, 9], vec![], vec![0, 2], vec![2, 2]] {
            let error = Candidates::flat(8, widths.clone());
            assert!(matches!(error, Err(Error::Candidates { actual, .. }) if actual == widths));
        }
    }

    #[test]
    fn narrowing_keeps_the_candidates_that_fit() -> Result<()> {
        let (candidates, kept) = Candidates::grid(4, 8, vec![2, 4], vec![2, 4, 8])?
            .narrowed(Size { heads: 4, channels: 4 })?;
        assert_eq!(candidates.widths(), [2, 4]);
        assert_eq!(kept, [0, 1, 3, 4]);
        Ok(())
    }
}
