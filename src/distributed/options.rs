//! Options of a process group.

use crate::{Error, Result};
use std::time::Duration;

/// Options of a process group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupOptions {
    /// How long a rank waits for the others: until all have joined, and in each operation. A rank that
    /// is alive but silent for longer is taken as failed. Default: 10 minutes.
    pub time_limit: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self { time_limit: Duration::from_secs(600) }
    }
}

impl GroupOptions {
    /// The default options with another time limit.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        const MOST: Duration = Duration::from_secs(30 * 86_400);
        if self.time_limit < Duration::from_millis(1) || self.time_limit > MOST {
            let actual = format!("{:?}", self.time_limit);
            return Err(Error::invalid("time_limit", "1 ms to 30 days", actual));
        }
        Ok(())
    }
}
