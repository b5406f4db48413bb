//! Measured latency of dense network and subnet.

use super::format::significant;
use super::html::{self, escape};
use super::svg;
use crate::subnet::LatencyComparison;

/// Section "Latency"; empty without measurements.
pub(super) fn section(latency: &[LatencyComparison]) -> String {
    if latency.is_empty() {
        return String::new();
    }
    let body: String = latency.iter().map(comparison).collect();
    let how = "Median time of one batch. Dense network and subnet are timed in turn on the same \
               images. Each pair of bars has its own scale.";
    html::section("Latency", how, &format!("<div class=\"speeds\">{body}</div>"))
}

/// Both networks at one batch size.
fn comparison(latency: &LatencyComparison) -> String {
    let longest = latency.dense_ms.max(latency.subnet_ms);
    let bar = |y: f64, class: &str, name: &str, ms: f64| {
        // The rest of the width is for the number beside the longest bar.
        let width = if longest > 0.0 && ms.is_finite() { 0.62 * ms / longest } else { 0.0 };
        let value = format!("{name} {} ms", significant(ms, 3));
        svg::rect(class, [0.0, y], [width, 14.0])
            + &svg::text("size first", [width, y + 11.0], 7.0, &value)
    };
    let content = bar(1.0, "dense", "dense network", latency.dense_ms)
        + &bar(21.0, "kept", "subnet", latency.subnet_ms);
    let ratio = significant(latency.dense_ms / latency.subnet_ms, 3);
    let title = format!("Batch of {}", latency.batch);
    let description = format!(
        "dense network {} ms, subnet {} ms, speed-up {ratio}",
        significant(latency.dense_ms, 3),
        significant(latency.subnet_ms, 3)
    );
    let drawing = svg::drawing(38.0, "", [&title, &description], &content);
    let mib = |bytes: u64| significant(bytes as f64 / (1024.0 * 1024.0), 3);
    let memory = match latency.memory {
        Some(own) => {
            format!("peak memory beside the weights {} → {} MiB", mib(own.dense), mib(own.subnet))
        }
        None => "peak memory not measured".into(),
    };
    let note = format!("speed-up <b>{ratio}×</b> on {}; {memory}", escape(&latency.device));
    html::figure("speed", &title, &note, &drawing)
}
