//! Position tables for another grid and other tokens before it, by timm's rules.

use super::family::PositionTable;
use crate::error::ImportError;
use crate::Result;
use tch::Tensor;

/// Rows of one token in a position table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    token: &'static str,
    first: i64,
    count: i64,
}

/// Returns the rows of tokens, each with its number of rows, one after the other.
pub(super) fn rows(tokens: impl Iterator<Item = (&'static str, i64)>) -> Vec<Rows> {
    let mut next = 0;
    let rows = tokens.map(|(token, count)| {
        let first = next;
        next += count;
        Rows { token, first, count }
    });
    rows.collect()
}

/// The table of the network, and that of the checkpoint.
pub(super) struct Tables<'a> {
    pub(super) to: PositionTable,
    /// Tokens of the network that may have rows.
    pub(super) own: Vec<Rows>,
    /// Tokens of the checkpoint that may have rows.
    pub(super) stored: Vec<Rows>,
    /// The network's table, freshly initialised.
    pub(super) fresh: &'a Tensor,
}

/// An adapted table, and the fate of the rows before the patches.
pub(super) struct Adapted {
    pub(super) table: Tensor,
    /// Rows that are to be added to a token of the network.
    pub(super) folded: Vec<(&'static str, Tensor)>,
    /// Rows of the checkpoint whose token the network does not have.
    pub(super) skipped: Vec<i64>,
    /// Rows of the network that are initialised afresh.
    pub(super) missing: Vec<i64>,
    /// Whether the network computes the same with it.
    pub(super) is_exact: bool,
}

impl Tables<'_> {
    /// Returns the table of the checkpoint, `[1, prefix + patches, E]`, as the network's,
    /// `[1, new prefix + new patches, E]`. `name` is its name in errors.
    ///
    /// # Errors
    /// [`ImportError::Positions`] if the patches are no square, nor as many as the network's.
    pub(super) fn adapt(&self, name: &str, table: &Tensor) -> Result<Adapted> {
        let rows = table.size().get(1).copied().unwrap_or(0);
        let (prefix, from) = self.prefix(name, rows)?;
        let within = |rows: &&Rows| rows.first + rows.count <= self.to.prefix;
        let own: Vec<&Rows> = self.own.iter().take_while(within).collect();
        let (mut all, mut folded, mut skipped, mut missing) = (vec![], vec![], vec![], vec![]);
        for rows in &own {
            let same = |stored: &&Rows| (stored.token, stored.count) == (rows.token, rows.count);
            all.push(match prefix.iter().find(same) {
                Some(stored) => table.f_narrow(1, stored.first, stored.count)?,
                None => {
                    missing.extend(rows.first..rows.first + rows.count);
                    self.fresh.f_narrow(1, rows.first, rows.count)?
                }
            });
        }
        for rows in prefix.iter().filter(|rows| own.iter().all(|own| own.token != rows.token)) {
            match self.own.iter().any(|own| own.token == rows.token) {
                true => folded.push((rows.token, table.f_narrow(1, rows.first, rows.count)?)),
                false => skipped.extend(rows.first..rows.first + rows.count),
            }
        }
        let before: i64 = prefix.iter().map(|rows| rows.count).sum();
        let patches = table.f_narrow(1, before, from[0] * from[1])?;
        all.push(grid(&patches, from, self.to.grid)?);
        let is_exact = from == self.to.grid && skipped.is_empty() && missing.is_empty();
        Ok(Adapted { table: Tensor::f_cat(&all, 1)?, folded, skipped, missing, is_exact })
    }

    /// Returns which tokens of the checkpoint have rows, and its grid of patches: as many as the network
    /// has rows for, or else as many as leave a square, or the network's grid.
    fn prefix(&self, name: &str, rows: i64) -> Result<(&[Rows], [i64; 2]), ImportError> {
        let total = |of: &[Rows]| of.iter().map(|rows| rows.count).sum::<i64>();
        let mut options: Vec<&[Rows]> =
            (0..=self.stored.len()).rev().map(|many| &self.stored[..many]).collect();
        options.sort_by_key(|option| total(option) != self.to.prefix);
        // A token of both may not be without a row in the checkpoint alone.
        let within = |rows: &&Rows| rows.first + rows.count <= self.to.prefix;
        let needed = self.own.iter().take_while(within).map(|rows| rows.token);
        let needed: Vec<&str> =
            needed.filter(|own| self.stored.iter().any(|rows| rows.token == *own)).collect();
        options
            .retain(|option| needed.iter().all(|own| option.iter().any(|rows| rows.token == *own)));
        let own = |option: &&[Rows]| rows - total(option) == self.to.grid[0] * self.to.grid[1];
        let fitting = options.iter().copied().find(own).map(|option| (option, self.to.grid));
        let fitting = fitting.or_else(|| {
            options.into_iter().find_map(|option| {
                let side = grid_side(name, rows, total(option)).ok()?;
                Some((option, [side; 2]))
            })
        });
        let prefix = total(&self.stored);
        fitting.ok_or_else(|| ImportError::Positions { name: name.into(), tokens: rows, prefix })
    }
}

/// Returns the side of the square grid behind the prefix tokens of a position table.
///
/// # Errors
/// [`ImportError::Positions`] if the grid is empty or not square.
pub(super) fn grid_side(name: &str, tokens: i64, prefix: i64) -> Result<i64, ImportError> {
    let patches = tokens - prefix;
    let side = patches.max(0).isqrt();
    if side == 0 || side * side != patches {
        return Err(ImportError::Positions { name: name.into(), tokens, prefix });
    }
    Ok(side)
}

/// Returns the rows of the patches in a position table for another grid.
///
/// The grid is resized as in timm's `resample_abs_pos_embed`: bicubic with antialiasing, corners
/// not aligned.
///
/// # Shapes
/// `[1, rows · columns, E]` → `[1, new rows · new columns, E]`.
fn grid(patches: &Tensor, from: [i64; 2], to: [i64; 2]) -> Result<Tensor> {
    if from == to {
        return Ok(patches.shallow_clone());
    }
    let image = patches.f_reshape([1, from[0], from[1], -1])?.f_permute([0, 3, 1, 2])?;
    let resized = image.f_internal_upsample_bicubic2d_aa(to, false, None, None)?;
    Ok(resized.f_permute([0, 2, 3, 1])?.f_reshape([1, to[0] * to[1], -1])?)
}
