//! Steps whose loss or gradient is not finite move nothing, and are counted.
//!
//! Both happen on the device: the host learns of it when a step is logged.

use crate::Result;
use tch::{Device, Kind, Tensor};

/// Counters on the device.
#[derive(Debug)]
pub(super) struct Guard {
    skipped: Tensor,
    in_a_row: Tensor,
    /// Skipped steps as of the last look.
    pub(super) seen: u64,
}

impl Guard {
    /// A guard that has skipped so many steps before.
    pub(super) fn new(skipped: u64, device: Device) -> Result<Self> {
        let count = |n: u64| -> Result<Tensor> {
            Ok(Tensor::f_full([0i64; 0], n as i64, (Kind::Int64, device))?)
        };
        Ok(Self { skipped: count(skipped)?, in_a_row: count(0)?, seen: skipped })
    }

    /// Counts a step that goes (1) or is skipped (0).
    pub(super) fn count(&mut self, go: &Tensor) -> Result<()> {
        let stop = go.f_ne(1)?.f_to_kind(Kind::Int64)?;
        self.skipped = self.skipped.f_add(&stop)?;
        self.in_a_row = self.in_a_row.f_add(&stop)?.f_mul(&stop)?;
        Ok(())
    }

    /// Steps skipped in all. Reads from the device.
    pub(super) fn skipped(&self) -> Result<u64> {
        Ok(self.skipped.f_int64_value(&[])? as u64)
    }

    /// Steps skipped in all, and in a row up to now. Reads from the device.
    pub(super) fn read(&mut self) -> Result<(u64, u64)> {
        self.seen = self.skipped()?;
        Ok((self.seen, self.in_a_row.f_int64_value(&[])? as u64))
    }
}
