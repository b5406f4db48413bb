//! Measured latency.

use super::format::significant;
use super::html::{self, escape};
use super::svg;
use crate::subnet::LatencyComparison;

/// The section of the page; nothing where nothing was measured.
pub(super) fn section(latency: &[LatencyComparison]) -> String {
    if latency.is_empty() {
        return String::new();
    }
    let body: String = latency.iter().map(comparison).collect();
    let how =
        "Median time of a batch, both networks in turn on the same images. Every pair has its own \
               scale.";
    html::section("Latency", how, &format!("<div class=\"speeds\">{body}</div>"))
}

/// Both networks at one batch size.
fn comparison(latency: &LatencyComparison) -> String {
    let longest = latency.dense_ms.max(latency.subnet_ms);
    let bar = |y: f64, class: &str, name: &str, ms: f64| {
        // Room for the number beside the longest bar.
        let width = if longest > 0.0 && ms.is_finite() { 0.72 * ms / longest } else { 0.0 };
        let value = format!("{name} {} ms", significant(ms, 3));
        svg::rect(class, [0.0, y], [width, 14.0])
            + &svg::text("size first", [width, y + 11.0], 7.0, &value)
    };
    let content = bar(1.0, "dense", "dense", latency.dense_ms)
        + &bar(21.0, "kept", "subnet", latency.subnet_ms);
    let ratio = significant(latency.dense_ms / latency.subnet_ms, 3);
    let title = format!("Batch {}", latency.batch);
    let words = format!(
        "dense {} ms, subnet {} ms, {ratio} times as fast",
        significant(latency.dense_ms, 3),
        significant(latency.subnet_ms, 3)
    );
    let drawing = svg::drawing(38.0, "", [&title, &words], &content);
    let note = format!("<b>{ratio}×</b> {}", escape(&latency.device));
    html::figure("speed", &title, &note, &drawing)
}
