//! Latency of several networks, measured in alternating order.

use super::memory::keep_freed_memory;
use crate::device;
use crate::range::Range;
use crate::Result;
use serde::{Deserialize, Serialize};
use std::time::Instant;
use tch::Device;

/// Rounds of a measurement.
const RUNS: Range<usize> = Range::closed(1, 1 << 20);

/// Wall-clock time of a call.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median, in milliseconds.
    pub median_ms: f64,
    /// Minimum, in milliseconds.
    pub min_ms: f64,
    /// Number of measured calls.
    pub runs: usize,
}

/// Returns the latency of each of `candidates`: one warm-up call each, then `runs` rounds in which
/// each is called once. The alternation spreads a drift of the machine's speed over all of them.
///
/// On CUDA, the device is synchronised inside the timed region. On a CPU with glibc, memory that the process frees stays with
/// it from then on ([`DeviceMeter`](super::DeviceMeter)).
///
/// # Errors
/// Those of the candidates; [`Error::Invalid`](crate::Error::Invalid) for no run, or more than 2²⁰.
pub fn compare_latency(
    candidates: &[&dyn Fn() -> Result<()>],
    runs: usize,
    device: Device,
) -> Result<Vec<Latency>> {
    let summarise = |times: Vec<f64>| Latency {
        min_ms: times.iter().copied().fold(f64::INFINITY, f64::min),
        runs,
        median_ms: median(times),
    };
    Ok(latency_rounds(candidates, runs, device)?.into_iter().map(summarise).collect())
}

/// Returns the times of [`compare_latency`], in milliseconds: of every candidate, one a round. Ratios
/// within a round are free of a drift of the machine's speed that is slower than a round.
///
/// # Errors
/// Those of [`compare_latency`].
pub fn latency_rounds(
    candidates: &[&dyn Fn() -> Result<()>],
    runs: usize,
    device: Device,
) -> Result<Vec<Vec<f64>>> {
    RUNS.check("runs", runs)?;
    if device == Device::Cpu {
        keep_freed_memory();
    }
    candidates.iter().try_for_each(|candidate| timed(candidate, device).map(drop))?;
    let mut times = vec![Vec::with_capacity(runs); candidates.len()];
    for _ in 0..runs {
        for (candidate, times) in candidates.iter().zip(&mut times) {
            times.push(timed(candidate, device)?);
        }
    }
    Ok(times)
}

pub(super) fn timed(candidate: &dyn Fn() -> Result<()>, device: Device) -> Result<f64> {
    device::synchronise(device)?;
    let start = Instant::now();
    candidate()?;
    device::synchronise(device)?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Median of the numbers; NaN if there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.get(values.len() / 2)) {
        (length, Some(&upper)) if length % 2 == 1 => upper,
        (length, Some(&upper)) => (values[length / 2 - 1] + upper) / 2.0,
        _ => f64::NAN,
    }
}
