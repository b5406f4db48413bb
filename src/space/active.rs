//! The cells of a dimension that are still candidates.

use super::{Cells, Size};
use crate::error::expect_shape;
use crate::{Error, Result};
use tch::{Device, Tensor};

/// The cells of a dimension, and which of them are active: at least one.
///
/// What a training step needs of them is laid out on the device when the set changes, so that a
/// step transfers nothing.
#[derive(Debug)]
pub struct ActiveSet {
    cells: Cells,
    flags: Vec<bool>,
    inactive: Tensor,
    row_of_rank: Tensor,
    column_of_rank: Tensor,
}

impl ActiveSet {
    /// All cells active.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device refuses memory.
    pub fn all(cells: &Cells, device: Device) -> Result<Self> {
        Self::new(cells, vec![true; cells.len()], device)
    }

    /// The cells whose flag is set, in the order of [`Cells::sizes`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if no flag is set or their number is not that of the cells.
    pub fn new(cells: &Cells, flags: Vec<bool>, device: Device) -> Result<Self> {
        if flags.len() != cells.len() {
            let expected = cells.len().to_string();
            return Err(Error::invalid("number of active flags", expected, flags.len()));
        }
        if !flags.contains(&true) {
            return Err(Error::invalid("active cells", "at least one", 0));
        }
        let inactive: Vec<bool> = flags.iter().map(|&active| !active).collect();
        let inactive =
            Tensor::f_from_slice(&inactive)?.f_view(cells.shape())?.f_to_device(device)?;
        Ok(Self {
            row_of_rank: first_above(cells.head_counts(), cells.heads(), device)?,
            column_of_rank: first_above(cells.widths(), cells.channels(), device)?,
            cells: cells.clone(),
            flags,
            inactive,
        })
    }

    /// The cells it is a set of.
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// One flag per cell.
    pub fn flags(&self) -> &[bool] {
        &self.flags
    }

    /// Mask of the inactive cells, shaped like α.
    pub fn inactive(&self) -> &Tensor {
        &self.inactive
    }

    /// For a head of rank ρ, the row of the first head count above ρ, `[heads]`, i64; the number
    /// of rows where there is none.
    pub fn row_of_rank(&self) -> &Tensor {
        &self.row_of_rank
    }

    /// For a channel of rank r, the column of the first width above r, `[channels]`, i64; the
    /// number of columns where there is none.
    pub fn column_of_rank(&self) -> &Tensor {
        &self.column_of_rank
    }

    /// n = |A|.
    pub fn count(&self) -> usize {
        self.flags.iter().filter(|&&active| active).count()
    }

    /// The only cell left, once the dimension is decided.
    pub fn decided(&self) -> Option<usize> {
        let mut cells = self.numbers();
        cells.next().filter(|_| cells.next().is_none())
    }

    /// Numbers of the active cells.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.flags.len()).filter(|&cell| self.flags[cell])
    }

    /// The smallest grid that holds every active cell.
    pub fn largest(&self) -> Size {
        let sizes = || self.numbers().map(|cell| self.cells.size(cell));
        Size {
            heads: sizes().map(|size| size.heads).max().unwrap_or(1),
            channels: sizes().map(|size| size.channels).max().unwrap_or(1),
        }
    }

    /// The cells that fit within `size`, active as they are, with their numbers among those of now,
    /// i64.
    ///
    /// # Errors
    /// [`Error::Cells`] if no cell fits, [`Error::Invalid`] if no active one does.
    pub(crate) fn narrowed(&self, size: Size) -> Result<(Self, Tensor)> {
        let (cells, kept) = self.cells.narrowed(size)?;
        let flags = kept.iter().map(|&cell| self.flags[cell]).collect();
        let numbers: Vec<i64> = kept.iter().map(|&cell| cell as i64).collect();
        let device = self.inactive.device();
        let numbers = Tensor::f_from_slice(&numbers)?.f_to_device(device)?;
        Ok((Self::new(&cells, flags, device)?, numbers))
    }

    /// log p over the active cells; −∞ outside.
    ///
    /// # Errors
    /// [`Error::Shape`] if α has another shape.
    pub fn log_probabilities(&self, alpha: &Tensor) -> Result<Tensor> {
        Ok(self.masked(alpha)?.f_log_softmax(0, None)?.f_reshape(self.cells.shape())?)
    }

    /// p: softmax of α over the active cells; 0 outside.
    ///
    /// # Errors
    /// [`Error::Shape`] if α has another shape.
    pub fn probabilities(&self, alpha: &Tensor) -> Result<Tensor> {
        Ok(self.masked(alpha)?.f_softmax(0, None)?.f_reshape(self.cells.shape())?)
    }

    /// α in a row, −∞ outside the active cells.
    fn masked(&self, alpha: &Tensor) -> Result<Tensor> {
        expect_shape("probabilities of cells", "alpha", alpha, &self.cells.shape())?;
        Ok(alpha.f_masked_fill(&self.inactive, f64::NEG_INFINITY)?.f_reshape([-1])?)
    }
}

/// For every rank below `units`, the position of the first candidate above it.
fn first_above(candidates: &[i64], units: i64, device: Device) -> Result<Tensor> {
    let table: Vec<i64> = (0..units)
        .map(|rank| candidates.partition_point(|&candidate| candidate <= rank) as i64)
        .collect();
    Ok(Tensor::f_from_slice(&table)?.f_to_device(device)?)
}
