//! Steps whose loss or gradient is not finite move nothing, and are counted.
//!
//! Both happen on the device: the host learns of it when a step is logged.

use crate::Result;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Counters on the device.
#[derive(Debug)]
pub(super) struct Guard {
    skipped: Tensor,
    in_a_row: Tensor,
    /// Skipped steps as of the last logged step.
    pub(super) told: u64,
}

/// The counters on the host, as a checkpoint keeps them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Steps skipped in all.
    pub(super) skipped: u64,
    /// Steps skipped in a row up to now.
    pub(super) in_a_row: u64,
    /// Steps skipped as of the last logged step.
    pub(super) told: u64,
}

impl Guard {
    /// A guard that goes on counting.
    pub(super) fn new(counts: Counts, device: Device) -> Result<Self> {
        let count = |n: u64| -> Result<Tensor> {
            Ok(Tensor::f_full([0i64; 0], n as i64, (Kind::Int64, device))?)
        };
        let (skipped, in_a_row) = (count(counts.skipped)?, count(counts.in_a_row)?);
        Ok(Self { skipped, in_a_row, told: counts.told })
    }

    /// Counts a step that goes (1) or is skipped (0).
    pub(super) fn count(&mut self, go: &Tensor) -> Result<()> {
        let stop = go.f_ne(1)?.f_to_kind(Kind::Int64)?;
        self.skipped = self.skipped.f_add(&stop)?;
        self.in_a_row = self.in_a_row.f_add(&stop)?.f_mul(&stop)?;
        Ok(())
    }

    /// The counters. Reads from the device.
    pub(super) fn counts(&self) -> Result<Counts> {
        let read = |count: &Tensor| count.f_int64_value(&[]);
        let (skipped, in_a_row) = (read(&self.skipped)?, read(&self.in_a_row)?);
        Ok(Counts { skipped: skipped as u64, in_a_row: in_a_row as u64, told: self.told })
    }
}
