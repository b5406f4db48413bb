//! Position tables and patch projections at other sizes, by timm's rules.

use crate::error::ImportError;
use crate::Result;
use tch::Tensor;

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

/// Returns a position table for another grid and another number of prefix tokens.
///
/// The grid is resized as in timm's `resample_abs_pos_embed`: bicubic with antialiasing, corners
/// not aligned. Rows of prefix tokens are copied; further ones are taken from `fresh`, and
/// superfluous ones are dropped.
///
/// # Shapes
/// `table`: `[1, prefix + side², E]`; `fresh` and the result: `[1, new prefix + new side², E]`.
pub(super) fn positions(
    table: &Tensor,
    (prefix, side): (i64, i64),
    fresh: &Tensor,
    (new_prefix, new_side): (i64, i64),
) -> Result<Tensor> {
    let mut rows = vec![table.f_narrow(1, 0, prefix.min(new_prefix))?];
    if new_prefix > prefix {
        rows.push(fresh.f_narrow(1, prefix, new_prefix - prefix)?);
    }
    let mut grid = table.f_narrow(1, prefix, side * side)?;
    if new_side != side {
        let image = grid.f_reshape([1, side, side, -1])?.f_permute([0, 3, 1, 2])?;
        let resized =
            image.f_internal_upsample_bicubic2d_aa([new_side, new_side], false, None, None)?;
        grid = resized.f_permute([0, 2, 3, 1])?.f_reshape([1, new_side * new_side, -1])?;
    }
    rows.push(grid);
    Ok(Tensor::f_cat(&rows, 1)?)
}

/// Returns a patch projection for other input channels, as timm's `adapt_input_conv`: for one, the
/// sum over the three channels; for n, the three repeated and scaled by 3/n.
///
/// # Shapes
/// `[E, 3, P, P]` → `[E, channels, P, P]`.
///
/// # Errors
/// [`ImportError::Channels`] unless the weight has three channels.
pub(super) fn channels(name: &str, weight: &Tensor, channels: i64) -> Result<Tensor> {
    let from = weight.size().get(1).copied().unwrap_or(0);
    if from != 3 {
        return Err(ImportError::Channels { name: name.into(), from, to: channels }.into());
    }
    if channels == 1 {
        return Ok(weight.f_sum_dim_intlist([1i64].as_slice(), true, weight.kind())?);
    }
    let repeated = weight.f_repeat([1, (channels + 2) / 3, 1, 1])?;
    Ok(repeated.f_narrow(1, 0, channels)?.f_mul_scalar(3.0 / channels as f64)?)
}
