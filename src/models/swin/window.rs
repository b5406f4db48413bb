//! Windows of tokens as tensors: cut out of the grid, and put back.

use crate::models::Windows;
use crate::Result;
use tch::{Device, Kind, Tensor};

/// `[B, N, E]`, row-major over the grid → `[B·windows, tokens, E]`.
pub(super) fn cut(windows: Windows, x: &Tensor) -> Result<Tensor> {
    let (batch, _, width) = x.size3()?;
    let (along, side) = (windows.along(), windows.side);
    let grid = x.f_view([batch, windows.grid, windows.grid, width])?;
    let rolled = roll(&grid, -windows.shift)?;
    let cut = rolled.f_view([batch, along, side, along, side, width])?;
    let shape = [batch * windows.count(), windows.tokens(), width];
    Ok(cut.f_permute([0, 1, 3, 2, 4, 5])?.f_reshape(shape)?)
}

/// What [`cut`] did, undone.
pub(super) fn join(windows: Windows, x: &Tensor) -> Result<Tensor> {
    let (all, _, width) = x.size3()?;
    let (along, side, grid) = (windows.along(), windows.side, windows.grid);
    let batch = all / windows.count();
    let cut = x.f_view([batch, along, along, side, side, width])?;
    let rolled = cut.f_permute([0, 1, 3, 2, 4, 5])?.f_reshape([batch, grid, grid, width])?;
    Ok(roll(&rolled, windows.shift)?.f_reshape([batch, grid * grid, width])?)
}

fn roll(grid: &Tensor, by: i64) -> Result<Tensor> {
    match by {
        0 => Ok(grid.shallow_clone()),
        by => Ok(grid.f_roll([by, by], [1, 2])?),
    }
}

/// For each pair of tokens of a window, the row of the table for their distance: `[tokens²]`, i64.
pub(super) fn distance_rows(windows: Windows, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(&windows.distance_rows())?.f_to_device(device)?)
}

/// What is added to the logits so that tokens stay apart which only rolling has brought together:
/// `[windows, 1, tokens, tokens]`, or nothing where the grid is not rolled.
pub(super) fn separation(windows: Windows, device: Device) -> Result<Option<Tensor>> {
    if windows.shift == 0 {
        return Ok(None);
    }
    let shape = [windows.count(), windows.tokens()];
    let regions = Tensor::f_from_slice(&windows.regions())?.f_view(shape)?;
    let apart = regions.f_unsqueeze(2)?.f_ne_tensor(&regions.f_unsqueeze(1)?)?;
    let lowered = apart.f_to_kind(Kind::Float)?.f_mul_scalar(Windows::APART)?;
    Ok(Some(lowered.f_unsqueeze(1)?.f_to_device(device)?))
}
