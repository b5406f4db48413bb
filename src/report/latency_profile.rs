//! Predicted latency by dimension: what a head or a channel costs.

use super::format::{percent, significant};
use super::html;
use super::scale::Scale;
use super::sensitivity::{by_heads, of_heads};
use crate::latency::{DimensionLatency, LatencyModel};
use crate::Result;
use std::collections::BTreeMap;

/// Section "Latency by dimension"; empty without a latency model.
pub(super) fn section(model: Option<&LatencyModel>) -> Result<String> {
    let Some(model) = model else { return Ok(String::new()) };
    let profile = model.profile()?;
    let values = profile.iter().flat_map(|own| own.latency.iter().map(|(_, ms)| *ms));
    let y = Scale::over(values);
    let charts: String = profile.iter().map(|own| chart(own, y)).collect();
    let error = &model.error;
    let how = format!(
        "Predicted latency of a batch in milliseconds over the share of units kept, when this dimension alone has a \
         candidate size (dots), all others dense. {}. Median error of predictions {}, 95th percentile {}, of {} networks \
         that were left out of the fit.",
        model.setting,
        percent(error.median),
        percent(error.p95),
        error.networks
    );
    let body = format!("<div class=\"charts\">{charts}</div>");
    Ok(html::section("Latency by dimension", &how, &html::figure("", "", "", &body)))
}

fn chart(own: &DimensionLatency, y: Scale) -> String {
    let most = own.latency.iter().map(|(size, _)| size.units()).max().unwrap_or(1);
    let mut lines: BTreeMap<i64, Vec<[f64; 2]>> = BTreeMap::new();
    for (size, ms) in &own.latency {
        let share = size.units() as f64 / most.max(1) as f64;
        lines.entry(size.heads).or_default().push([share, *ms]);
    }
    let lines = of_heads(lines);
    let values =
        own.latency.iter().map(|(size, ms)| format!("{size}: {} ms.", significant(*ms, 4)));
    let equal = match own.names.len() {
        1 => own.names[0].clone(),
        count => format!("{} (one of {count} equal)", own.names[0]),
    };
    by_heads(&equal, &lines, &values.collect::<Vec<_>>().join(" "), y)
}
