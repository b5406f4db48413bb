//! Windows of tokens in a square grid, as plain numbers.

/// The windows that a grid of tokens is cut into, rolled first where they are shifted (Liu et al.
/// 2021).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Tokens along a side of the grid.
    pub grid: i64,
    /// Tokens along a side of a window; divides the grid.
    pub side: i64,
    /// By how many tokens the grid is rolled, up and to the left.
    pub shift: i64,
}

impl Windows {
    /// What the logit of two tokens is lowered by that only rolling has brought into one window, as
    /// in the reference implementation.
    pub const APART: f64 = -100.0;

    /// Windows along a side of the grid.
    pub fn along(self) -> i64 {
        self.grid / self.side.max(1)
    }

    /// How many there are.
    pub fn count(self) -> i64 {
        self.along().saturating_mul(self.along())
    }

    /// Tokens of one.
    pub fn tokens(self) -> i64 {
        self.side.saturating_mul(self.side)
    }

    /// Rows of a table with a bias for every distance of two tokens of a window.
    pub fn distances(self) -> i64 {
        let steps = self.side.saturating_mul(2).saturating_sub(1);
        steps.saturating_mul(steps)
    }

    /// Row of the table for every two tokens of a window, `tokens × tokens`.
    pub fn distance_rows(self) -> Vec<i64> {
        let steps = 2 * self.side - 1;
        let place = |token: i64| token / self.side * steps + token % self.side;
        let centre = (self.side - 1) * (steps + 1);
        let tokens = || 0..self.tokens();
        tokens().flat_map(|from| tokens().map(move |to| place(from) - place(to) + centre)).collect()
    }

    /// Along a side of the rolled grid: tokens of different bands do not belong together. The last
    /// band was rolled over the edge, the middle one shares its windows.
    pub fn bands(self) -> Vec<i64> {
        let band = |at: i64| match at {
            at if at < self.grid - self.side => 0,
            at if at < self.grid - self.shift => 1,
            _ => 2,
        };
        (0..self.grid).map(band).collect()
    }

    /// By window and token, where the token stands in the grid, row by row.
    pub fn order(self) -> Vec<i64> {
        let rolled = |at: i64| (at + self.shift) % self.grid;
        self.places().map(|(row, column)| rolled(row) * self.grid + rolled(column)).collect()
    }

    /// By window and token, which part of the rolled grid it belongs to. Two tokens of a window
    /// attend to each other if it is the same.
    pub fn regions(self) -> Vec<i64> {
        let bands = self.bands();
        let band = |at: i64| bands[at as usize];
        self.places().map(|(row, column)| 3 * band(row) + band(column)).collect()
    }

    /// Row and column in the rolled grid, by window and token.
    fn places(self) -> impl Iterator<Item = (i64, i64)> {
        let (side, along) = (self.side, self.along());
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
    fn windows_by_hand() {
        let windows = Windows { grid: 4, side: 2, shift: 1 };
        assert_eq!((windows.count(), windows.tokens(), windows.distances()), (4, 4, 9));
        assert_eq!(windows.bands(), [0, 0, 1, 2]);
        // The first window begins one down and one to the right.
        assert_eq!(windows.order()[..4], [5, 6, 9, 10]);
        // The last holds the corner and what was rolled over both edges.
        assert_eq!(windows.order()[12..], [15, 12, 3, 0]);
        assert_eq!(windows.regions()[12..], [4, 5, 7, 8]);
        // A token to itself: the middle of the table. First to last: one up, one to the left.
        let rows = windows.distance_rows();
        assert_eq!((rows[0], rows[3], rows[12]), (4, 0, 8));
    }
}
