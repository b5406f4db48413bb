//! Top-1 where it was measured.

use super::chart::{Chart, Line, Stroke};
use super::format::Unit;
use super::html;
use super::progress::{hues, Stage};
use crate::search::Event;

/// Steps and top-1.
pub(super) fn measured(stage: &Stage) -> Vec<[f64; 2]> {
    let measured = stage.events.iter().filter_map(|event| match event {
        Event::Evaluated { step, top1 } => Some([*step as f64, *top1]),
        _ => None,
    });
    measured.collect()
}

/// The section of the page; nothing where nothing was measured.
pub(super) fn section(stages: &[Stage]) -> String {
    let hues = hues(stages);
    let lines: Vec<Line> = (stages.iter().zip(hues))
        .map(|(stage, hue)| Line {
            name: &stage.name,
            hue,
            stroke: Stroke::Dots,
            points: measured(stage),
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let chart = Chart {
        steps: stages.iter().map(Stage::extent).fold(0.0, f64::max),
        ..Chart::new("Top-1", Unit::Percent, 160.0, lines)
    };
    let how = "Share of held-out images whose class is predicted first, at the steps where it was measured.";
    html::section("Accuracy", how, &chart.html())
}
