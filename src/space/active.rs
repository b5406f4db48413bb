//! The cells of a dimension that are still candidates.

use super::{Cells, Size};
use crate::{Error, Result};
use tch::{Device, Tensor};

/// A non-empty set of active cells, on the host and as a mask on the device.
///
/// The device copy is made when the set changes, so that a training step needs no transfer.
#[derive(Debug)]
pub struct ActiveSet {
    flags: Vec<bool>,
    inactive: Tensor,
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
            return Err(Error::invalid(
                "number of active flags",
                cells.len().to_string(),
                flags.len(),
            ));
        }
        if !flags.contains(&true) {
            return Err(Error::invalid("active cells", "at least one", 0));
        }
        let inactive: Vec<bool> = flags.iter().map(|&active| !active).collect();
        let inactive =
            Tensor::f_from_slice(&inactive)?.f_view(cells.shape())?.f_to_device(device)?;
        Ok(Self { flags, inactive })
    }

    /// One flag per cell.
    pub fn flags(&self) -> &[bool] {
        &self.flags
    }

    /// Mask of the inactive cells, shaped like α.
    pub fn inactive(&self) -> &Tensor {
        &self.inactive
    }

    /// n = |A|.
    pub fn count(&self) -> usize {
        self.flags.iter().filter(|&&active| active).count()
    }

    /// The only cell left, once the dimension is decided.
    pub fn decided(&self) -> Option<usize> {
        let mut cells = self.cells();
        cells.next().filter(|_| cells.next().is_none())
    }

    /// Numbers of the active cells.
    pub fn cells(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.flags.len()).filter(|&cell| self.flags[cell])
    }

    /// The smallest grid that holds every active cell.
    pub fn largest(&self, cells: &Cells) -> Size {
        let sizes = || self.cells().map(|cell| cells.size(cell));
        Size {
            heads: sizes().map(|size| size.heads).max().unwrap_or(1),
            channels: sizes().map(|size| size.channels).max().unwrap_or(1),
        }
    }

    /// log p over the active cells; −∞ outside.
    ///
    /// # Errors
    /// [`Error::Torch`] if α has another shape.
    pub fn log_probabilities(&self, alpha: &Tensor) -> Result<Tensor> {
        let masked = alpha.f_masked_fill(&self.inactive, f64::NEG_INFINITY)?;
        Ok(masked.f_view([-1])?.f_log_softmax(0, None)?.f_view_as(alpha)?)
    }

    /// p: softmax of α over the active cells; 0 outside.
    ///
    /// # Errors
    /// [`Error::Torch`] if α has another shape.
    pub fn probabilities(&self, alpha: &Tensor) -> Result<Tensor> {
        let masked = alpha.f_masked_fill(&self.inactive, f64::NEG_INFINITY)?;
        Ok(masked.f_view([-1])?.f_softmax(0, None)?.f_view_as(alpha)?)
    }
}
