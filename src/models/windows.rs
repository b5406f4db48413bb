//! Geometry of window attention over a square grid of tokens.

/// Partition of a square grid of tokens into square windows; shifted windows are windows of the
/// rolled grid (Liu et al. 2021).
///
/// A grid whose side is no multiple of the window's is padded at the bottom and on the right, after it
/// was rolled, by tokens of zeros, as in timm: the others attend to them as to any token of their
/// region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Tokens along a side of the grid, at least 1.
    pub grid: i64,
    /// Tokens along a side of a window, at least 1.
    pub side: i64,
    /// Tokens by which the grid is rolled, up and to the left, fewer than `side`; 0 for windows that are not shifted.
    pub shift: i64,
}

impl Windows {
    /// Addend of the attention logits of two tokens that share a window only because the grid was
    /// rolled; −100 as in the reference implementation.
    pub const MASKED: f64 = -100.0;

    /// Returns the number of windows along a side of the grid.
    pub fn per_side(self) -> i64 {
        let side = self.side.max(1);
        self.grid / side + i64::from(self.grid % side != 0)
    }

    /// Returns the number of tokens along a side of the padded grid.
    pub fn padded(self) -> i64 {
        self.per_side().saturating_mul(self.side)
    }

    /// Returns the number of tokens by which either side of the grid is padded.
    pub fn padding(self) -> i64 {
        self.padded().saturating_sub(self.grid)
    }

    /// Returns the number of windows.
    pub fn count(self) -> i64 {
        self.per_side().saturating_mul(self.per_side())
    }

    /// Returns the number of tokens of a window.
    pub fn tokens(self) -> i64 {
        self.side.saturating_mul(self.side)
    }

    /// Returns the number of relative positions of two tokens of a window, (2·side − 1)²: the rows
    /// of the bias table.
    pub fn relative_positions(self) -> i64 {
        let steps = self.side.saturating_mul(2).saturating_sub(1);
        steps.saturating_mul(steps)
    }

    /// Returns how many numbers the constants of an attention have: the relative positions of a window, and the
    /// mask of every shifted one.
    pub(super) fn constants(self) -> f64 {
        let masked = if self.shift == 0 { 0 } else { self.count() };
        (self.tokens() as f64).powi(2) * (1.0 + masked as f64)
    }

    /// Returns the row of the bias table for each pair of tokens of a window, `tokens × tokens`.
    pub fn relative_position_index(self) -> Vec<i64> {
        let steps = 2 * self.side - 1;
        let place = |token: i64| token / self.side * steps + token % self.side;
        let centre = (self.side - 1) * (steps + 1);
        let tokens = || 0..self.tokens();
        tokens().flat_map(|from| tokens().map(move |to| place(from) - place(to) + centre)).collect()
    }

    /// Returns for each place along a side of the rolled and padded grid the band it belongs to: 2 for
    /// its last `shift` places, which without padding are the tokens that were rolled over the edge, 1
    /// for those that share a window with them, 0 for all others.
    pub fn bands(self) -> Vec<i64> {
        let band = |at: i64| match at {
            at if at < self.padded() - self.side => 0,
            at if at < self.padded() - self.shift => 1,
            _ => 2,
        };
        (0..self.padded()).map(band).collect()
    }

    /// Returns for each token, ordered window by window, its index in the grid, row by row; `grid²`
    /// for those of the padding.
    pub fn order(self) -> Vec<i64> {
        let rolled = |at: i64| (at + self.shift) % self.grid;
        let index = |(row, column): (i64, i64)| match row.max(column) < self.grid {
            true => rolled(row) * self.grid + rolled(column),
            false => self.grid * self.grid,
        };
        self.places().map(index).collect()
    }

    /// Returns for each token, ordered window by window, its region of the rolled and padded grid:
    /// 3·row band plus column band. Tokens of a window attend to those of their own region.
    pub fn regions(self) -> Vec<i64> {
        let bands = self.bands();
        let band = |at: i64| bands[at as usize];
        self.places().map(|(row, column)| 3 * band(row) + band(column)).collect()
    }

    /// Row and column in the rolled and padded grid of each token, ordered window by window.
    fn places(self) -> impl Iterator<Item = (i64, i64)> {
        let (side, along) = (self.side, self.per_side());
        (0..self.count()).flat_map(move |window| {
            let (top, left) = (window / along * side, window % along * side);
            (0..side * side).map(move |token| (top + token / side, left + token % side))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_a_grid_of_4_equal_those_computed_by_hand() {
        let windows = Windows { grid: 4, side: 2, shift: 1 };
        assert_eq!((windows.count(), windows.tokens(), windows.relative_positions()), (4, 4, 9));
        assert_eq!(windows.bands(), [0, 0, 1, 2]);
        // The first window starts one row down and one column to the right.
        assert_eq!(windows.order()[..4], [5, 6, 9, 10]);
        // The last holds the corner and the tokens that were rolled over both edges.
        assert_eq!(windows.order()[12..], [15, 12, 3, 0]);
        assert_eq!(windows.regions()[12..], [4, 5, 7, 8]);
        // A token to itself: the middle row. First to last token: one row up, one column left.
        let rows = windows.relative_position_index();
        assert_eq!((rows[0], rows[3], rows[12]), (4, 0, 8));
    }

    #[test]
    fn windows_that_do_not_divide_the_grid_are_padded_at_the_bottom_and_on_the_right() {
        let windows = Windows { grid: 3, side: 2, shift: 1 };
        assert_eq!((windows.per_side(), windows.padded(), windows.padding()), (2, 4, 1));
        assert_eq!(windows.bands(), [0, 0, 1, 2]);
        assert_eq!(windows.order()[..4], [4, 5, 7, 8]);
        // The token in the corner was rolled there; the others of its window are padding.
        assert_eq!(windows.order()[12..], [0, 9, 9, 9]);
        assert_eq!(windows.regions()[12..], [4, 5, 7, 8]);
    }
}
