//! The latency of one network, measured beside the dense one.

use super::measure::visited;
use super::meter::Meter;
use super::ratio::Ratios;
use super::LatencyModel;
use crate::models::Architecture;
use crate::Result;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Visits of both networks: at least, however long they take, and at most.
const ROUNDS: [usize; 2] = [8, 20];
/// Seconds after which fewer visits do.
const SECONDS: f64 = 20.0;

/// Latency of a network, measured beside the dense one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredLatency {
    /// Median ratio to the dense network, times its latency in the model: milliseconds of a batch.
    pub ms: f64,
    /// Standard error of that, in milliseconds.
    pub standard_error: f64,
}

impl LatencyModel {
    /// Measures a network in turn with the dense one, under the conditions of the model: 20 visits of each, or as many as
    /// 20 seconds hold, but 8 at least. `goes_on` is called before each.
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
        let start = Instant::now();
        let missing = |visits: &usize| !enough(*visits, start.elapsed().as_secs_f64());
        for _ in (0..).take_while(missing) {
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

/// Whether so many visits in so many seconds are enough.
fn enough(visits: usize, seconds: f64) -> bool {
    let [least, most] = ROUNDS;
    visits >= most || visits >= least && seconds > SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_networks_are_visited_less_often() {
        let visits = |seconds_each: f64| {
            (0..).find(|&own| enough(own, own as f64 * seconds_each)).unwrap_or_default()
        };
        assert_eq!([0.01, 1.0, 1.5, 30.0].map(visits), [20, 20, 14, 8]);
    }
}
