//! The candidates of a dimension that are still candidates.

use super::{Candidates, Size};
use crate::error::expect_shape;
use crate::{Error, Result};
use tch::{Device, Tensor};

/// The candidates of a dimension, and which of them are active: at least one.
///
/// What a training step needs of them is laid out on the device when the set changes, so that a
/// step transfers nothing.
#[derive(Debug)]
pub struct ActiveSet {
    candidates: Candidates,
    flags: Vec<bool>,
    inactive: Tensor,
    row_of_rank: Tensor,
    column_of_rank: Tensor,
}

impl ActiveSet {
    /// All candidates active.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device refuses memory.
    pub fn all(candidates: &Candidates, device: Device) -> Result<Self> {
        Self::new(candidates, vec![true; candidates.len()], device)
    }

    /// The candidates whose flag is set, in the order of [`Candidates::sizes`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if no flag is set or their number is not that of the candidates.
    pub fn new(candidates: &Candidates, flags: Vec<bool>, device: Device) -> Result<Self> {
        if flags.len() != candidates.len() {
            let expected = candidates.len().to_string();
            return Err(Error::invalid("number of active flags", expected, flags.len()));
        }
        if !flags.contains(&true) {
            return Err(Error::invalid("active candidates", "at least one", 0));
        }
        let inactive: Vec<bool> = flags.iter().map(|&active| !active).collect();
        let inactive =
            Tensor::f_from_slice(&inactive)?.f_view(candidates.shape())?.f_to_device(device)?;
        Ok(Self {
            row_of_rank: first_above(candidates.head_counts(), candidates.heads(), device)?,
            column_of_rank: first_above(candidates.widths(), candidates.channels(), device)?,
            candidates: candidates.clone(),
            flags,
            inactive,
        })
    }

    /// The candidates it is a set of.
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// One flag per candidate.
    pub fn flags(&self) -> &[bool] {
        &self.flags
    }

    /// Mask of the inactive candidates, shaped like α.
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

    /// The only candidate left, once the dimension is decided.
    pub fn decided(&self) -> Option<usize> {
        let mut candidates = self.numbers();
        candidates.next().filter(|_| candidates.next().is_none())
    }

    /// Numbers of the active candidates.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.flags.len()).filter(|&candidate| self.flags[candidate])
    }

    /// The smallest grid that holds every active candidate.
    pub fn largest(&self) -> Size {
        let sizes = || self.numbers().map(|candidate| self.candidates.size(candidate));
        Size {
            heads: sizes().map(|size| size.heads).max().unwrap_or(1),
            channels: sizes().map(|size| size.channels).max().unwrap_or(1),
        }
    }

    /// The candidates that fit within `size`, active as they are, with their numbers among those of now,
    /// i64.
    ///
    /// # Errors
    /// [`Error::Candidates`] if no candidate fits, [`Error::Invalid`] if no active one does.
    pub(crate) fn narrowed(&self, size: Size) -> Result<(Self, Tensor)> {
        let (candidates, kept) = self.candidates.narrowed(size)?;
        let flags = kept.iter().map(|&candidate| self.flags[candidate]).collect();
        let numbers: Vec<i64> = kept.iter().map(|&candidate| candidate as i64).collect();
        let device = self.inactive.device();
        let numbers = Tensor::f_from_slice(&numbers)?.f_to_device(device)?;
        Ok((Self::new(&candidates, flags, device)?, numbers))
    }

    /// log p over the active candidates; −∞ outside.
    ///
    /// # Errors
    /// [`Error::Shape`] if α has another shape.
    pub fn log_probabilities(&self, alpha: &Tensor) -> Result<Tensor> {
        Ok(self.masked(alpha)?.f_log_softmax(0, None)?.f_reshape(self.candidates.shape())?)
    }

    /// p: softmax of α over the active candidates; 0 outside.
    ///
    /// # Errors
    /// [`Error::Shape`] if α has another shape.
    pub fn probabilities(&self, alpha: &Tensor) -> Result<Tensor> {
        Ok(self.masked(alpha)?.f_softmax(0, None)?.f_reshape(self.candidates.shape())?)
    }

    /// α in a row, −∞ outside the active candidates.
    fn masked(&self, alpha: &Tensor) -> Result<Tensor> {
        expect_shape("probabilities of candidates", "alpha", alpha, &self.candidates.shape())?;
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
