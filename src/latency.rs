//! Measured latency of networks, in turn, so that a drifting machine is fair to all.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Instant;
use tch::{Cuda, Device};

/// Wall time of one call.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median, in milliseconds.
    pub median_ms: f64,
    /// Fastest call, in milliseconds.
    pub min_ms: f64,
    /// Calls measured.
    pub runs: usize,
}

/// Times `candidates` in turn: after one warm-up each, `runs` rounds of one call each. On CUDA
/// the device is synchronised inside the timed region.
///
/// # Errors
/// Those of a candidate; [`Error::Invalid`] for zero runs.
pub fn compare_latency(
    candidates: &[&dyn Fn() -> Result<()>],
    runs: usize,
    device: Device,
) -> Result<Vec<Latency>> {
    if runs == 0 {
        return Err(Error::invalid("runs", "at least 1", runs));
    }
    candidates.iter().try_for_each(|candidate| timed(candidate, device).map(drop))?;
    let mut times = vec![Vec::with_capacity(runs); candidates.len()];
    for _ in 0..runs {
        for (candidate, times) in candidates.iter().zip(&mut times) {
            times.push(timed(candidate, device)?);
        }
    }
    let summarise = |times: Vec<f64>| Latency {
        min_ms: times.iter().copied().fold(f64::INFINITY, f64::min),
        runs,
        median_ms: median(times),
    };
    Ok(times.into_iter().map(summarise).collect())
}

fn timed(candidate: &dyn Fn() -> Result<()>, device: Device) -> Result<f64> {
    synchronise(device);
    let start = Instant::now();
    candidate()?;
    synchronise(device);
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn synchronise(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// Median of some numbers; NaN for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.get(values.len() / 2)) {
        (length, Some(&upper)) if length % 2 == 1 => upper,
        (length, Some(&upper)) => (values[length / 2 - 1] + upper) / 2.0,
        _ => f64::NAN,
    }
}
