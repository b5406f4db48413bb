//! Latency models: what a head costs on a device.

use crate::latency::{DimensionLatency, LatencyModel};
use crate::Result;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

/// Characters of the longest bar.
const BAR: f64 = 40.0;

/// A latency model that was read.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LatencyInspection {
    /// The model.
    pub model: LatencyModel,
    /// Predicted latency by dimension; dimensions of equal layers are one entry.
    pub profile: Vec<DimensionLatency>,
}

/// Reads a latency model.
pub(super) fn inspect(path: &Path) -> Result<LatencyInspection> {
    let model = LatencyModel::read(path)?;
    Ok(LatencyInspection { profile: model.profile()?, model })
}

/// Conditions and error, then for each dimension what a unit costs, and a chart of the latency with this
/// dimension alone at a size.
impl Display for LatencyInspection {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let LatencyModel { setting, family, dense_ms, error, drift, .. } = &self.model;
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        for (name, value) in [
            ("family", family.clone()),
            ("measured on", setting.to_string()),
            ("dense network", format!("{dense_ms:.3} ms")),
            ("median error", format!("{} of {} networks", percent(error.median), error.networks)),
            ("95th percent.", percent(error.p95)),
            ("drift", percent(*drift)),
        ] {
            writeln!(out, "{name:<14}{value}")?;
        }
        let all = self.profile.iter().flat_map(|own| own.latency.iter());
        let most = all.map(|(_, ms)| *ms).fold(0.0, f64::max);
        self.profile.iter().try_for_each(|own| write_dimension(out, own, most))
    }
}

fn write_dimension(out: &mut Formatter<'_>, own: &DimensionLatency, most: f64) -> fmt::Result {
    let name = own.names.first().map_or("", String::as_str);
    write!(out, "\n{name}")?;
    if own.names.len() > 1 {
        write!(out, " (one of {} equal ones)", own.names.len())?;
    }
    let costs = [("a head", own.per_head()), ("a channel", own.per_channel())];
    for (unit, cost) in costs {
        cost.map_or(Ok(()), |ms| write!(out, ", {unit} costs {ms:.4} ms"))?;
    }
    writeln!(out)?;
    for (size, ms) in own.shown() {
        let filled = if most > 0.0 { (BAR * ms / most).round() as usize } else { 0 };
        writeln!(out, "  {:<12}{ms:>10.3} ms  {}", size.to_string(), "█".repeat(filled))?;
    }
    Ok(())
}
