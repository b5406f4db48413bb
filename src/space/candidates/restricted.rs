//! Candidates with fewer sizes.

use super::{Candidates, Size, UNITS};
use crate::Result;

impl Candidates {
    /// Returns the candidates with at least the heads and the channels of `least`; [`Size::REMOVED`] has none.
    ///
    /// # Errors
    /// [`Error::Candidates`](crate::Error::Candidates) if none is left.
    pub fn at_least(&self, least: Size) -> Result<Self> {
        let from = |list: &[i64], least: i64| -> Vec<i64> {
            list.iter().copied().filter(|&value| value >= least).collect()
        };
        let (head_counts, widths) =
            (from(&self.head_counts, least.heads), from(&self.widths, least.channels));
        let grid = Self::grid(self.heads, self.channels, head_counts, widths)?;
        Ok(Self { removable: self.removable && Size::REMOVED == least, ..grid })
    }

    /// Returns the candidates whose channels (the width of a flat dimension) are a multiple of `factor`; the dense size
    /// stays, if it is a candidate, and so does [`Size::REMOVED`].
    ///
    /// # Errors
    /// [`Error::Candidates`](crate::Error::Candidates) if none is left; [`Error::Invalid`](crate::Error::Invalid) for a factor below 1.
    pub fn multiple_of(&self, factor: i64) -> Result<Self> {
        UNITS.check("multiple of the candidates", factor)?;
        let kept = |&width: &i64| width % factor == 0 || width == self.channels;
        let widths = self.widths.iter().copied().filter(kept).collect();
        let grid = Self::grid(self.heads, self.channels, self.head_counts.clone(), widths)?;
        Ok(Self { removable: self.removable, ..grid })
    }

    /// Returns the candidates with other head counts and widths.
    pub(crate) fn on(&self, head_counts: Vec<i64>, widths: Vec<i64>) -> Result<Self> {
        let grid = Self::grid(self.heads, self.channels, head_counts, widths)?;
        Ok(Self { removable: self.removable, ..grid })
    }

    /// Returns the candidates of the dimension pruned to `size`: those with at most its heads and
    /// channels; and their numbers among the candidates before.
    ///
    /// # Errors
    /// [`Error::Candidates`](crate::Error::Candidates) if none is left.
    pub fn narrowed(&self, size: Size) -> Result<(Self, Vec<usize>)> {
        if self.removable && size == Size::REMOVED {
            return Ok((Self::removed(), vec![0]));
        }
        let within = |list: &[i64], most: i64| -> Vec<i64> {
            list.iter().copied().filter(|&value| value <= most).collect()
        };
        let grid = Self::grid(
            size.heads,
            size.channels,
            within(&self.head_counts, size.heads),
            within(&self.widths, size.channels),
        )?;
        let kept = (0..self.len()).filter(|&candidate| self.size(candidate).fits_into(size));
        Ok((Self { removable: self.removable, ..grid }, kept.collect()))
    }
}
