//! The latency of one network, measured beside the dense one.

use super::measure::visited;
use super::meter::Meter;
use super::ratio::Ratios;
use super::LatencyModel;
use crate::models::Architecture;
use crate::Result;
use serde::{Deserialize, Serialize};

/// Visits of both networks.
const ROUNDS: usize = 20;

/// Latency of a network, measured beside the dense one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredLatency {
    /// Median ratio to the dense network, times its latency in the model: milliseconds of a batch.
    pub ms: f64,
    /// Standard error of that, in milliseconds.
    pub standard_error: f64,
}

impl LatencyModel {
    /// Measures a network in turn with the dense one, under the conditions of the model. `goes_on` is called before
    /// each round.
    ///
    /// # Errors
    /// [`LatencyError::Differs`](crate::error::LatencyError::Differs) if the meter has other conditions
    /// than the model; those of the meter and of `goes_on`.
    pub fn check<A: Architecture>(
        &self,
        meter: &dyn Meter<A>,
        dense: &A,
        network: &A,
        goes_on: &dyn Fn() -> Result<()>,
    ) -> Result<MeasuredLatency> {
        self.setting.expect(&meter.setting())?;
        let (dense, network) = (meter.prepare(dense)?, meter.prepare(network)?);
        let mut before = visited(&dense, "the dense network")?;
        let mut ratios = Ratios::default();
        for _ in 0..ROUNDS {
            goes_on()?;
            let own = visited(&network, "the chosen network")?;
            let after = visited(&dense, "the dense network")?;
            ratios.add(own, [before, after], 0.5);
            before = after;
        }
        let (ratio, standard_error) = ratios.median();
        let [ms, standard_error] = [ratio, standard_error].map(|own| own * self.dense_ms);
        Ok(MeasuredLatency { ms, standard_error })
    }
}
