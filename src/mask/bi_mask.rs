//! The bi-mask of one dimension.

use super::lambda::check_lambda;
use super::rank::{head_ranks, ranks};
use crate::error::expect_shape;
use crate::space::{ActiveSet, Cells};
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// What a bi-mask is computed from.
#[derive(Debug, Clone, Copy)]
pub struct UnitState<'a> {
    /// Scores, `[heads, channels]` (`[1, units]` for a flat dimension).
    pub score: &'a Tensor,
    /// Cell logits α, `[head counts, channel widths]`.
    pub alpha: &'a Tensor,
    /// Cells still in the running.
    pub active: &'a ActiveSet,
    /// Importance of channels that have left, by head, `[heads]`.
    pub departed: Option<&'a Tensor>,
}

/// A bi-mask and its two halves, each shaped like the scores.
#[derive(Debug)]
pub struct Mask {
    /// S, in (0, 1).
    pub importance: Tensor,
    /// V, in [0, 1].
    pub sparsity: Tensor,
    /// m = λ·S + (1−λ)·V.
    pub mask: Tensor,
}

/// The weights of a dimension's units.
///
/// Gradients reach scores only through [`importance`](Self::importance), α only through
/// [`sparsity`](Self::sparsity): ranks are constants.
pub trait BiMask {
    /// The cells whose units are weighed.
    fn cells(&self) -> &Cells;

    /// S of every unit, `[heads, channels]`, differentiable in the score.
    ///
    /// # Errors
    /// [`Error::Shape`] if the scores are not those of the cells.
    fn importance(&self, score: &Tensor) -> Result<Tensor>;

    /// V of every unit, `[heads, channels]`, differentiable in α.
    ///
    /// # Errors
    /// [`Error::Shape`] if scores or α are not those of the cells.
    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor>;

    /// m = λ·S + (1−λ)·V (paper eq. 5).
    ///
    /// # Errors
    /// [`Error::Invalid`] if λ is outside [0, 1], and those of the two halves.
    fn mask(&self, state: UnitState, lambda: f64) -> Result<Mask> {
        check_lambda("lambda", lambda)?;
        let importance = self.importance(state.score)?;
        let sparsity = self.sparsity(state, &importance)?;
        let mask = importance.f_mul_scalar(lambda)?.f_add(&sparsity.f_mul_scalar(1.0 - lambda)?)?;
        Ok(Mask { importance, sparsity, mask })
    }
}

/// The paper's bi-mask: S = σ(score), V by rank.
#[derive(Debug)]
pub struct LearnedBiMask {
    cells: Cells,
    /// For a head of rank ρ, the row of the first head count above ρ.
    row_of_rank: Tensor,
    /// For a channel of rank r, the column of the first width above r.
    column_of_rank: Tensor,
}

impl LearnedBiMask {
    /// Lays out the tables from ranks to cells on `device`.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device refuses memory.
    pub fn new(cells: Cells, device: Device) -> Result<Self> {
        let row_of_rank = first_above(cells.head_counts(), cells.heads(), device)?;
        let column_of_rank = first_above(cells.widths(), cells.channels(), device)?;
        Ok(Self { cells, row_of_rank, column_of_rank })
    }

    /// V̂ by rank: `V̂[ρ, r] = Σ_{h_a > ρ, c_b > r} p_ab`, `[heads, channels]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if α is not that of the cells.
    pub fn sparsity_by_rank(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        let rows = self.tail(alpha, active)?.f_index_select(0, &self.row_of_rank)?;
        Ok(rows.f_index_select(1, &self.column_of_rank)?)
    }

    /// Σ of p over the cells at and beyond each cell, with a row and a column of zeros after the
    /// last: one reverse cumulative sum along each axis.
    fn tail(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        expect_shape("sparsity", "alpha", alpha, &self.cells.shape())?;
        let p = active.probabilities(alpha)?.f_flip([0, 1])?;
        // Sums of probabilities; the bound only takes away what rounding adds above 1.
        let sums = p.f_cumsum(0, None)?.f_cumsum(1, None)?.f_clamp_max(1.0)?;
        Ok(sums.f_flip([0, 1])?.f_constant_pad_nd([0, 1, 0, 1])?)
    }
}

impl BiMask for LearnedBiMask {
    fn cells(&self) -> &Cells {
        &self.cells
    }

    fn importance(&self, score: &Tensor) -> Result<Tensor> {
        expect_shape("importance", "score", score, &self.cells.unit_shape())?;
        Ok(score.f_sigmoid()?)
    }

    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor> {
        expect_shape("sparsity", "score", state.score, &self.cells.unit_shape())?;
        let tail = self.tail(state.alpha, state.active)?;
        let (score, importance) = (state.score.f_detach()?, importance.f_detach()?);
        let rows = self.row_of_rank.f_index_select(0, &head_ranks(&importance, state.departed)?)?;
        let columns = self.column_of_rank.f_take(&ranks(&score)?)?;
        let width = self.cells.shape()[1] + 1;
        let place = rows.f_mul_scalar(width)?.f_unsqueeze(1)?.f_add(&columns)?;
        Ok(tail.f_take(&place)?)
    }
}

/// For every rank below `units`, the position of the first candidate above it.
fn first_above(candidates: &[i64], units: i64, device: Device) -> Result<Tensor> {
    let table: Vec<i64> = (0..units)
        .map(|rank| candidates.partition_point(|&candidate| candidate <= rank) as i64)
        .collect();
    Ok(Tensor::f_from_slice(&table)?.f_to_device(device)?)
}

/// Refuses scores or cell logits that are not finite. Reads from the device.
///
/// # Errors
/// [`Error::NonFinite`] naming the dimension.
pub(crate) fn expect_finite(name: &str, dimension: &str, tensor: &Tensor) -> Result<()> {
    let finite = tensor.f_isfinite()?.f_all()?.f_to_kind(Kind::Int64)?.f_int64_value(&[])?;
    if finite == 1 {
        return Ok(());
    }
    Err(Error::NonFinite { name: name.into(), dimension: dimension.into() })
}
