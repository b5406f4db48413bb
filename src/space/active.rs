//! Active candidates of a dimension, and their probabilities p.

use super::{ActiveSets, Candidates, Size};
use crate::error::expect_shape;
use crate::transfer::upload;
use crate::{Error, Result};
use std::cell::OnceCell;
use tch::{Device, Tensor};

/// Active candidates A of a dimension: those that a search has not dropped. There is always at
/// least one.
///
/// Index tensors of a training step are copied to the device when the set is made, or first used
/// ([`alone`](Self::alone)), so that a step transfers no data between host and device.
#[derive(Debug)]
pub struct ActiveSet {
    candidates: Candidates,
    flags: Vec<bool>,
    inactive: Tensor,
    /// This dimension alone as [`ActiveSets`], once it was asked for.
    alone: OnceCell<Box<ActiveSets>>,
}

impl ActiveSet {
    /// Returns the set in which all candidates are active.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device has no memory left.
    pub fn all(candidates: &Candidates, device: Device) -> Result<Self> {
        Self::new(candidates, vec![true; candidates.len()], device)
    }

    /// Returns the set in which the candidates with a true flag are active.
    ///
    /// # Shapes
    /// `flags`: one per candidate, in the order of [`Candidates::sizes`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if no flag is true or their number is not that of the candidates.
    pub fn new(candidates: &Candidates, flags: Vec<bool>, device: Device) -> Result<Self> {
        if flags.len() != candidates.len() {
            let expected = candidates.len().to_string();
            return Err(Error::invalid("number of active flags", expected, flags.len()));
        }
        if !flags.contains(&true) {
            return Err(Error::invalid("active candidates", "at least one", 0));
        }
        let inactive: Vec<bool> = flags.iter().map(|&active| !active).collect();
        let inactive = upload(&inactive, device)?.f_view(candidates.shape())?;
        Ok(Self { candidates: candidates.clone(), flags, inactive, alone: OnceCell::new() })
    }

    /// Returns the same set; its tensor shares memory.
    pub(super) fn shallow_clone(&self) -> Self {
        let (candidates, flags) = (self.candidates.clone(), self.flags.clone());
        Self { candidates, flags, inactive: self.inactive.shallow_clone(), alone: OnceCell::new() }
    }

    /// Returns this dimension alone as [`ActiveSets`]; its index tensors are copied to the device once.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device has no memory left.
    pub fn alone(&self) -> Result<&ActiveSets> {
        if let Some(known) = self.alone.get() {
            return Ok(known);
        }
        let alone = ActiveSets::new(&[self], self.inactive.device())?;
        Ok(self.alone.get_or_init(|| Box::new(alone)))
    }

    /// Returns all candidates, active and dropped.
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// Returns for every candidate whether it is active.
    pub fn flags(&self) -> &[bool] {
        &self.flags
    }

    /// Returns the boolean mask of the dropped candidates, of the shape of α.
    pub fn inactive(&self) -> &Tensor {
        &self.inactive
    }

    /// Returns the number of active candidates, n = |A|.
    pub fn count(&self) -> usize {
        self.flags.iter().filter(|&&active| active).count()
    }

    /// Returns the number of the only active candidate, or `None` while the dimension is undecided.
    pub fn decided(&self) -> Option<usize> {
        let mut candidates = self.numbers();
        candidates.next().filter(|_| candidates.next().is_none())
    }

    /// Returns the numbers of the active candidates.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.flags.len()).filter(|&candidate| self.flags[candidate])
    }

    /// Returns the largest active head count and the largest active channel width.
    pub fn largest(&self) -> Size {
        let sizes = || self.numbers().map(|candidate| self.candidates.size(candidate));
        Size {
            heads: sizes().map(|size| size.heads).max().unwrap_or(1),
            channels: sizes().map(|size| size.channels).max().unwrap_or(1),
        }
    }

    /// Returns the set over the candidates within `size`, and the numbers of these among the
    /// candidates before.
    ///
    /// # Shapes
    /// The numbers: `[candidates]`, i64.
    ///
    /// # Errors
    /// [`Error::Candidates`] if no candidate is within `size`, [`Error::Invalid`] if no active one
    /// is.
    pub(crate) fn narrowed(&self, size: Size) -> Result<(Self, Tensor)> {
        let (candidates, kept) = self.candidates.narrowed(size)?;
        let flags = kept.iter().map(|&candidate| self.flags[candidate]).collect();
        let numbers: Vec<i64> = kept.iter().map(|&candidate| candidate as i64).collect();
        let device = self.inactive.device();
        let numbers = upload(&numbers, device)?;
        Ok((Self::new(&candidates, flags, device)?, numbers))
    }

    /// Returns ln p, where p = softmax(α) over the active candidates; −∞ for dropped ones.
    ///
    /// # Shapes
    /// `alpha` and result: [`Candidates::shape`].
    ///
    /// # Errors
    /// [`Error::Shape`] if α has another shape.
    pub fn log_probabilities(&self, alpha: &Tensor) -> Result<Tensor> {
        Ok(self.masked(alpha)?.f_log_softmax(0, None)?.f_reshape(self.candidates.shape())?)
    }

    /// Returns p = softmax(α) over the active candidates; 0 for dropped ones.
    ///
    /// # Shapes
    /// `alpha` and result: [`Candidates::shape`].
    ///
    /// # Errors
    /// [`Error::Shape`] if α has another shape.
    pub fn probabilities(&self, alpha: &Tensor) -> Result<Tensor> {
        Ok(self.masked(alpha)?.f_softmax(0, None)?.f_reshape(self.candidates.shape())?)
    }

    /// Returns α, flattened, with −∞ for dropped candidates.
    fn masked(&self, alpha: &Tensor) -> Result<Tensor> {
        expect_shape("probabilities of candidates", "alpha", alpha, &self.candidates.shape())?;
        Ok(alpha.f_masked_fill(&self.inactive, f64::NEG_INFINITY)?.f_reshape([-1])?)
    }
}
