//! Ranks of units and heads by descending importance; ties go to the lower index.

use crate::space::Size;
use crate::tensors::widened;
use crate::Result;
use tch::{Kind, Tensor};

/// Returns the ranks of `values` along the last axis: 0 for the largest, ties to the lower index.
///
/// # Shapes
/// Any; the result has the same shape and kind i64.
///
/// # Errors
/// [`crate::Error::Torch`] for a scalar.
pub fn ranks(values: &Tensor) -> Result<Tensor> {
    // The argsort of a permutation is its inverse.
    let order = values.f_argsort_stable(true, -1, true)?;
    Ok(order.f_argsort_stable(true, -1, false)?)
}

/// Returns the ranks of heads by the sum of their channels' importance, including the channels
/// pruned so far: pruning channels does not change the order of the heads.
///
/// # Shapes
/// `importance`: `[heads, channels]`; `pruned_importance`: `[heads]`. Result: `[heads]`, i64.
///
/// # Errors
/// [`crate::Error::Torch`] unless `importance` has two axes.
pub fn head_ranks(importance: &Tensor, pruned_importance: Option<&Tensor>) -> Result<Tensor> {
    let sums = widened(importance)?.f_sum_dim_intlist([1i64].as_slice(), false, None)?;
    match pruned_importance {
        None => ranks(&sums),
        Some(pruned_importance) => ranks(&sums.f_add(pruned_importance)?),
    }
}

/// Returns the flat indices of the units kept at `size`: those of the highest-ranked heads, and in
/// each head the channels with the highest scores, in their original order.
///
/// # Shapes
/// `score`: `[heads, channels]`; `head_ranks`: `[heads]`. Result:
/// `[size.heads · size.channels]`, i64.
///
/// # Errors
/// [`crate::Error::Torch`] if `size` exceeds heads or channels.
pub fn most_important(score: &Tensor, head_ranks: &Tensor, size: Size) -> Result<Tensor> {
    let (_, channels) = score.size2()?;
    let heads = first(head_ranks, size.heads)?;
    let within = first(&ranks(&score.f_index_select(0, &heads)?)?, size.channels)?;
    let base = heads.f_mul_scalar(channels)?.f_unsqueeze(1)?;
    Ok(within.f_add(&base)?.f_flatten(0, -1)?)
}

/// Returns the indices of rank below `count` along the last axis, ascending.
fn first(ranks: &Tensor, count: i64) -> Result<Tensor> {
    let order = ranks.f_argsort_stable(true, -1, false)?.f_narrow(-1, 0, count)?;
    Ok(order.f_sort(-1, false)?.0.f_to_kind(Kind::Int64)?)
}
