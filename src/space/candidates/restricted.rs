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

    /// Returns the candidates with their channels (the width of a flat dimension) rounded up to multiples of `factor`, at most
    /// to the dense number, each once. Head counts and [`Size::REMOVED`] stay.
    ///
    /// ```
    /// use once_for_both::space::Candidates;
    ///
    /// # fn main() -> once_for_both::Result<()> {
    /// // 48, 51, …, 96.
    /// let candidates = Candidates::embedding(96)?;
    /// assert_eq!(candidates.multiple_of(8)?.widths(), [48, 56, 64, 72, 80, 88, 96]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a factor below 1 or above 2²⁰.
    pub fn multiple_of(&self, factor: i64) -> Result<Self> {
        self.channels_multiple_of(factor, 1)
    }

    /// Returns [`multiple_of`](Self::multiple_of) where a unit is `unit` channels: the multiples of `factor` are those of
    /// channels, the candidates are units.
    pub(crate) fn channels_multiple_of(&self, factor: i64, unit: i64) -> Result<Self> {
        UNITS.check("multiple of the candidates", factor)?;
        if self.widths.is_empty() {
            return Ok(self.clone());
        }
        let step = factor / greatest_common_divisor(factor, unit.max(1));
        let rounded = |width: &i64| ((width + step - 1) / step * step).min(self.channels);
        let mut widths: Vec<i64> = self.widths.iter().map(rounded).collect();
        widths.dedup();
        self.on(self.head_counts.clone(), widths)
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

fn greatest_common_divisor(left: i64, right: i64) -> i64 {
    match right {
        0 => left,
        _ => greatest_common_divisor(right, left % right),
    }
}
