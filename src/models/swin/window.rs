//! Tensors of window attention: partition and its inverse, relative positions, attention mask.

use crate::models::Windows;
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Orders the tokens of a grid window by window: `[B, N, E]`, row by row, →
/// `[B·windows, tokens, E]`. Before, a shifted grid is rolled, then padded with zeros where the windows
/// do not divide it.
pub(super) fn partition(windows: Windows, x: &Tensor) -> Result<Tensor> {
    let (batch, _, width) = x.size3()?;
    let (along, side) = (windows.per_side(), windows.side);
    let grid = x.f_view([batch, windows.grid, windows.grid, width])?;
    let padded = pad(roll(&grid, -windows.shift)?, windows.padding())?;
    let parts = padded.f_view([batch, along, side, along, side, width])?;
    let shape = [batch * windows.count(), windows.tokens(), width];
    Ok(parts.f_permute([0, 1, 3, 2, 4, 5])?.f_reshape(shape)?)
}

/// Inverse of [`partition`]: `[B·windows, tokens, E]` → `[B, N, E]`. Tokens of the padding are left out.
pub(super) fn reverse(windows: Windows, x: &Tensor) -> Result<Tensor> {
    let (all, _, width) = x.size3()?;
    let (along, side, grid) = (windows.per_side(), windows.side, windows.grid);
    let batch = all / windows.count();
    let parts = x.f_view([batch, along, along, side, side, width])?;
    let padded = windows.padded();
    let shape = [batch, padded, padded, width];
    let mut rolled = parts.f_permute([0, 1, 3, 2, 4, 5])?.f_reshape(shape)?;
    if windows.padding() > 0 {
        rolled = rolled.f_narrow(1, 0, grid)?.f_narrow(2, 0, grid)?;
    }
    Ok(roll(&rolled, windows.shift)?.f_reshape([batch, grid * grid, width])?)
}

/// Appends `by` rows and columns of zeros to grids of tokens: `[B, G, G, E]` → `[B, G + by, G + by, E]`.
pub(super) fn pad(grid: Tensor, by: i64) -> Result<Tensor> {
    match by {
        0 => Ok(grid),
        by => Ok(grid.f_constant_pad_nd([0, 0, 0, by, 0, by])?),
    }
}

fn roll(grid: &Tensor, by: i64) -> Result<Tensor> {
    match by {
        0 => Ok(grid.shallow_clone()),
        by => Ok(grid.f_roll([by, by], [1, 2])?),
    }
}

/// Returns for each pair of tokens of a window the row of the bias table: `[tokens²]`, i64.
pub(super) fn relative_position_index(windows: Windows, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(&windows.relative_position_index())?.f_to_device(device)?)
}

/// Returns the attention mask of a shifted grid, which is added to the logits of tokens that are
/// neighbours only because the grid was rolled or padded: `[windows, 1, tokens, tokens]`. `None` without
/// shift.
pub(super) fn attention_mask(windows: Windows, device: Device) -> Result<Option<Tensor>> {
    if windows.shift == 0 {
        return Ok(None);
    }
    let shape = [windows.count(), windows.tokens()];
    let regions = Tensor::f_from_slice(&windows.regions())?.f_view(shape)?;
    let apart = regions.f_unsqueeze(2)?.f_ne_tensor(&regions.f_unsqueeze(1)?)?;
    let lowered = apart.f_to_kind(Kind::Float)?.f_mul_scalar(Windows::MASKED)?;
    Ok(Some(lowered.f_unsqueeze(1)?.f_to_device(device)?))
}
