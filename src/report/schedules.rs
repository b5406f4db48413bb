//! What follows a plan: λ, the mask ratio, the learning rate.

use super::chart::{Chart, Line, Stroke};
use super::format::Unit;
use super::html;
use super::progress::{hues, Stage};
use super::scale::Scale;
use super::series::of_steps;
use crate::search::{Phase, StepMetrics};

type Read = fn(&StepMetrics) -> Option<f64>;

/// The section of the page; nothing where nothing was logged.
pub(super) fn section(stages: &[Stage]) -> String {
    let searched = |metrics: &StepMetrics| metrics.phase == Phase::Search;
    let lambda: Read = |metrics| Some(metrics.lambda);
    let share = Some(Scale::new(0.0, 1.0));
    let charts = [
        Chart {
            range: share,
            ..chart(stages, "Weight of importance λ", Unit::Plain, lambda, searched)
        },
        chart(stages, "Hidden patches", Unit::Percent, |m| Some(m.mask_ratio), searched),
        chart(stages, "Learning rate", Unit::Plain, |m| Some(m.lr), |_| true),
    ];
    let body: String =
        charts.iter().filter(|chart| !chart.lines.is_empty()).map(Chart::html).collect();
    if body.is_empty() {
        return body;
    }
    let how =
        "What follows a plan: how much importance counts against sparsity, the share of hidden \
               patches, and the learning rate of the weights.";
    html::section("Schedules", how, &format!("<div class=\"charts\">{body}</div>"))
}

fn chart<'a>(
    stages: &'a [Stage],
    title: &'a str,
    unit: Unit,
    read: Read,
    counts: fn(&StepMetrics) -> bool,
) -> Chart<'a> {
    let mut lines = Vec::new();
    for (stage, hue) in stages.iter().zip(hues(stages)) {
        let points = of_steps(&stage.events, |metrics| read(metrics).filter(|_| counts(metrics)));
        if points.iter().any(|point| point[1] != 0.0) {
            lines.push(Line { name: &stage.name, hue, stroke: Stroke::Solid, points });
        }
    }
    Chart::new(title, unit, 110.0, lines)
}
