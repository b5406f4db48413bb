//! Ranks: the place of a unit in descending importance, ties to the lower index.

use crate::space::Size;
use crate::tensors::widened;
use crate::Result;
use tch::{Kind, Tensor};

/// Ranks of `values` along the last axis: 0 for the largest, ties to the lower index.
///
/// # Shapes
/// Any; the result has the same shape and kind i64.
///
/// # Errors
/// [`crate::Error::Torch`] for a scalar.
pub fn ranks(values: &Tensor) -> Result<Tensor> {
    // The inverse of a permutation is what sorts it.
    let order = values.f_argsort_stable(true, -1, true)?;
    Ok(order.f_argsort_stable(true, -1, false)?)
}

/// Ranks of heads: by the sum of their channels' importance, with that of channels that have
/// left already, so that their departure does not reorder the heads.
///
/// # Shapes
/// `importance`: `[heads, channels]`; `pruned`: `[heads]`; result `[heads]`.
///
/// # Errors
/// [`crate::Error::Torch`] if `importance` has no two axes.
pub fn head_ranks(importance: &Tensor, pruned_importance: Option<&Tensor>) -> Result<Tensor> {
    let sums = widened(importance)?.f_sum_dim_intlist([1i64].as_slice(), false, None)?;
    match pruned_importance {
        None => ranks(&sums),
        Some(pruned_importance) => ranks(&sums.f_add(pruned_importance)?),
    }
}

/// Flat indices of the units that survive at `size`: the best heads, and in each its best
/// channels, in their original order.
///
/// # Shapes
/// `score`: `[heads, channels]`; `head_ranks`: `[heads]`; result
/// `[size.heads · size.channels]`, i64.
///
/// # Errors
/// [`crate::Error::Torch`] if `size` exceeds the grid.
pub fn most_important(score: &Tensor, head_ranks: &Tensor, size: Size) -> Result<Tensor> {
    let (_, channels) = score.size2()?;
    let heads = first(head_ranks, size.heads)?;
    let within = first(&ranks(&score.f_index_select(0, &heads)?)?, size.channels)?;
    let base = heads.f_mul_scalar(channels)?.f_unsqueeze(1)?;
    Ok(within.f_add(&base)?.f_flatten(0, -1)?)
}

/// Indices whose rank is below `count`, ascending, along the last axis.
fn first(ranks: &Tensor, count: i64) -> Result<Tensor> {
    let order = ranks.f_argsort_stable(true, -1, false)?.f_narrow(-1, 0, count)?;
    Ok(order.f_sort(-1, false)?.0.f_to_kind(Kind::Int64)?)
}
