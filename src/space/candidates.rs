//! Candidate sizes of one dimension.

mod defaults;
mod restricted;
#[cfg(test)]
mod tests;

use crate::range::Range;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Units of a dimension: far above those of any network.
const UNITS: Range<i64> = Range::closed(1, 1 << 20);

/// Size of a dimension: number of heads, and channels of each head.
///
/// A flat dimension (embedding, hidden width) has one head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Number of heads; 1 for a flat dimension, 0 for a removed branch.
    pub heads: i64,
    /// Channels of each head; the width of a flat dimension; 0 for a removed branch.
    pub channels: i64,
}

impl Size {
    /// Size of a dimension without units: of a removed branch.
    pub const REMOVED: Self = Self { heads: 0, channels: 0 };

    /// Returns whether there are no units.
    pub fn is_removed(self) -> bool {
        self.units() == 0
    }

    /// Returns whether heads and channels are at most those of `most`.
    pub fn fits_into(self, most: Self) -> bool {
        self.heads <= most.heads && self.channels <= most.channels
    }

    /// Returns the size of a flat dimension with this width.
    pub fn flat(width: i64) -> Self {
        Self { heads: 1, channels: width }
    }

    /// Returns the number of units: heads × channels.
    pub fn units(self) -> i64 {
        self.heads.saturating_mul(self.channels)
    }
}

/// `48`, or heads × channels: `4 × 16`; `removed` without units.
impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.heads {
            _ if self.is_removed() => write!(f, "removed"),
            1 => write!(f, "{}", self.channels),
            heads => write!(f, "{heads} × {}", self.channels),
        }
    }
}

/// Candidate sizes of a dimension: every pair of one of `A` head counts and one of `B` channel
/// widths.
///
/// Candidates are numbered in row-major order, head counts outside, like the candidate logits α of
/// shape `[A, B]`. [`with_removal`](Self::with_removal) puts one more before them, [`Size::REMOVED`]; the shape of α is
/// `[1, 1 + A·B]` then.
///
/// ```
/// use once_for_both::space::Candidates;
///
/// # fn main() -> once_for_both::Result<()> {
/// let candidates = Candidates::attention(6, 64)?;
/// assert_eq!(candidates.head_counts(), [2, 4, 6]);
/// assert_eq!(candidates.widths(), [16, 24, 32, 40, 48, 56, 64]);
/// assert_eq!(candidates.shape(), [3, 7]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Candidates {
    heads: i64,
    channels: i64,
    head_counts: Vec<i64>,
    widths: Vec<i64>,
    /// Whether [`Size::REMOVED`] is the first candidate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removable: bool,
}

/// Deserialised candidates before [`Candidates::grid`] has checked them.
#[derive(Deserialize)]
struct Unchecked {
    heads: i64,
    channels: i64,
    head_counts: Vec<i64>,
    widths: Vec<i64>,
    #[serde(default)]
    removable: bool,
}

impl TryFrom<Unchecked> for Candidates {
    type Error = Error;

    fn try_from(raw: Unchecked) -> Result<Self> {
        let Unchecked { heads, channels, head_counts, widths, removable } = raw;
        let none = head_counts.is_empty() && widths.is_empty();
        if removable && none && [heads, channels] == [0, 0] {
            return Ok(Self::removed());
        }
        let grid = Self::grid(heads, channels, head_counts, widths)?;
        Ok(Self { removable, ..grid })
    }
}

impl Candidates {
    /// Returns candidates w₁, …, w_K of a flat dimension of `units` units.
    ///
    /// # Errors
    /// [`Error::Candidates`] unless 0 < w₁ < … < w_K ≤ `units`; [`Error::Invalid`] for more than 2²⁰
    /// units.
    pub fn flat(units: i64, widths: Vec<i64>) -> Result<Self> {
        Self::grid(1, units, vec![1], widths)
    }

    /// Returns candidates of an attention of `heads` × `channels` units: all pairs of a head count
    /// and a channel width.
    ///
    /// # Errors
    /// [`Error::Candidates`] unless both lists are ascending, positive, and at most `heads` and
    /// `channels`; [`Error::Invalid`] for more than 2²⁰ units.
    pub fn grid(
        heads: i64,
        channels: i64,
        head_counts: Vec<i64>,
        widths: Vec<i64>,
    ) -> Result<Self> {
        check("head counts", heads, &head_counts)?;
        check("channel widths", channels, &widths)?;
        expect_units(heads, channels)?;
        Ok(Self { heads, channels, head_counts, widths, removable: false })
    }

    /// Returns the candidates with [`Size::REMOVED`] as the first of them.
    ///
    /// [`SearchSpace::removable_branches`](super::SearchSpace::removable_branches) adds it to every dimension that the
    /// architecture can be built without; another dimension with it is refused.
    pub fn with_removal(self) -> Self {
        Self { removable: true, ..self }
    }

    /// Returns whether [`Size::REMOVED`] is a candidate.
    pub fn removable(&self) -> bool {
        self.removable
    }

    /// Returns the candidates of a dimension that has been removed.
    fn removed() -> Self {
        let (head_counts, widths) = (Vec::new(), Vec::new());
        Self { heads: 0, channels: 0, head_counts, widths, removable: true }
    }

    /// Returns the dense number of heads; 1 for a flat dimension.
    pub fn heads(&self) -> i64 {
        self.heads
    }

    /// Returns the dense channels of a head; the units of a flat dimension.
    pub fn channels(&self) -> i64 {
        self.channels
    }

    /// Returns the candidate head counts, ascending.
    pub fn head_counts(&self) -> &[i64] {
        &self.head_counts
    }

    /// Returns the candidate channel widths, ascending.
    pub fn widths(&self) -> &[i64] {
        &self.widths
    }

    /// Returns the dense number of units: heads × channels.
    pub fn units(&self) -> i64 {
        self.heads.saturating_mul(self.channels)
    }

    /// Returns the shape of the importance scores s: `[heads, channels]`.
    pub fn unit_shape(&self) -> [i64; 2] {
        [self.heads, self.channels]
    }

    /// Returns the shape of the candidate logits α: `[head counts, channel widths]`, or `[1, candidates]` if
    /// [`Size::REMOVED`] is one of them.
    pub fn shape(&self) -> [i64; 2] {
        if self.removable {
            return [1, self.len() as i64];
        }
        [self.head_counts.len() as i64, self.widths.len() as i64]
    }

    /// Returns the number of candidates.
    pub fn len(&self) -> usize {
        self.head_counts.len() * self.widths.len() + usize::from(self.removable)
    }

    /// Returns false: there is always at least one candidate.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Returns the dense size.
    pub fn full(&self) -> Size {
        Size { heads: self.heads, channels: self.channels }
    }

    /// Returns the size of the candidate with this number.
    ///
    /// # Panics
    /// If there is no such candidate.
    pub fn size(&self, candidate: usize) -> Size {
        if self.removable && candidate == 0 {
            return Size::REMOVED;
        }
        let (columns, at) = (self.widths.len(), candidate - usize::from(self.removable));
        Size { heads: self.head_counts[at / columns], channels: self.widths[at % columns] }
    }

    /// Returns the size of the first candidate with a unit; the dense size if there is none.
    pub(crate) fn least(&self) -> Size {
        self.sizes().find(|size| !size.is_removed()).unwrap_or(self.full())
    }

    /// Returns whether a dimension can be pruned to this size: it has a unit and fits, or is [`Size::REMOVED`] where that
    /// is a candidate.
    pub(crate) fn may_become(&self, size: Size) -> bool {
        match size == Size::REMOVED {
            true => self.removable,
            false => size.heads >= 1 && size.channels >= 1 && size.fits_into(self.full()),
        }
    }

    /// Returns the sizes of all candidates, in the order of their numbers.
    pub fn sizes(&self) -> impl Iterator<Item = Size> + '_ {
        (0..self.len()).map(|candidate| self.size(candidate))
    }
}

/// Refuses a dimension with fewer units than one, or more than any network has.
fn expect_units(heads: i64, channels: i64) -> Result<()> {
    UNITS.check("heads of a dimension", heads)?;
    UNITS.check("units of a dimension, by head", channels)?;
    UNITS.check("units of a dimension", heads.saturating_mul(channels))
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
        expected: format!("at least one number, ascending, from 1 to {most}"),
        actual: candidates.to_vec(),
    })
}
