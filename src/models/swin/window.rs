//! Windows of tokens: cut out of the grid, put back, and where each token of one stands.

use crate::Result;
use tch::{Device, Tensor};

/// What a masked logit is lowered by, as in the reference implementation.
const OUT_OF_REACH: f32 = -100.0;

/// The windows of one block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    /// Tokens along a side of the grid.
    pub(super) grid: i64,
    /// Tokens along a side of a window.
    pub(super) side: i64,
    /// By how many tokens the grid is rolled first.
    pub(super) shift: i64,
}

impl Windows {
    /// How many there are.
    pub(super) fn count(self) -> i64 {
        (self.grid / self.side) * (self.grid / self.side)
    }

    /// Tokens of one.
    pub(super) fn tokens(self) -> i64 {
        self.side * self.side
    }

    /// `[B, N, E]`, row-major over the grid → `[B·windows, tokens, E]`.
    pub(super) fn cut(self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, width) = x.size3()?;
        let rolled = self.roll(&x.f_view([batch, self.grid, self.grid, width])?, -self.shift)?;
        let (many, side) = (self.grid / self.side, self.side);
        let windows = rolled.f_view([batch, many, side, many, side, width])?;
        let shape = [batch * self.count(), self.tokens(), width];
        Ok(windows.f_permute([0, 1, 3, 2, 4, 5])?.f_reshape(shape)?)
    }

    /// What [`cut`](Self::cut) did, undone.
    pub(super) fn join(self, windows: &Tensor) -> Result<Tensor> {
        let (all, _, width) = windows.size3()?;
        let (many, side) = (self.grid / self.side, self.side);
        let batch = all / self.count();
        let grid = windows.f_view([batch, many, many, side, side, width])?;
        let grid = grid.f_permute([0, 1, 3, 2, 4, 5])?;
        let grid = grid.f_reshape([batch, self.grid, self.grid, width])?;
        Ok(self.roll(&grid, self.shift)?.f_reshape([batch, self.grid * self.grid, width])?)
    }

    fn roll(self, grid: &Tensor, by: i64) -> Result<Tensor> {
        match by {
            0 => Ok(grid.shallow_clone()),
            by => Ok(grid.f_roll([by, by], [1, 2])?),
        }
    }

    /// For each pair of tokens of a window, the row of the table that holds the bias of their
    /// distance: `[tokens²]`, i64.
    pub(super) fn relative_positions(self, device: Device) -> Result<Tensor> {
        let side = self.side;
        let places = || (0..side).flat_map(|row| (0..side).map(move |column| (row, column)));
        let distance = |from: i64, to: i64| from - to + side - 1;
        let rows: Vec<i64> = places()
            .flat_map(|(row, column)| {
                places().map(move |(r, c)| distance(row, r) * (2 * side - 1) + distance(column, c))
            })
            .collect();
        Ok(Tensor::f_from_slice(&rows)?.f_to_device(device)?)
    }

    /// What keeps tokens apart that only rolling has brought into one window:
    /// `[windows, 1, tokens, tokens]`, or nothing where the grid is not rolled.
    pub(super) fn separation(self, device: Device) -> Result<Option<Tensor>> {
        if self.shift == 0 {
            return Ok(None);
        }
        // Bands along one axis: what stays together, the last window's rest, what was rolled over.
        let band = |at: i64| match at {
            at if at < self.grid - self.side => 0,
            at if at < self.grid - self.shift => 1,
            _ => 2,
        };
        let many = self.grid / self.side;
        let mut apart = Vec::with_capacity((self.count() * self.tokens() * self.tokens()) as usize);
        for window in 0..self.count() {
            let (top, left) = (window / many * self.side, window % many * self.side);
            let region =
                |token: i64| (band(top + token / self.side), band(left + token % self.side));
            for from in 0..self.tokens() {
                for to in 0..self.tokens() {
                    apart.push(if region(from) == region(to) { 0.0 } else { OUT_OF_REACH });
                }
            }
        }
        let shape = [self.count(), 1, self.tokens(), self.tokens()];
        Ok(Some(Tensor::f_from_slice(&apart)?.f_view(shape)?.f_to_device(device)?))
    }
}
