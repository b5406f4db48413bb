//! What the optimiser sees.

use super::chart::{Chart, Line, Moment, Stroke};
use super::format::Unit;
use super::html;
use super::progress::{hues, Stage};
use super::series::of_steps;
use crate::search::Losses;

type Read = fn(&Losses) -> f64;

const KINDS: [(&str, Read); 5] = [
    ("Task", |loss| loss.task),
    ("One-hot", |loss| loss.one_hot),
    ("Budget", |loss| loss.budget),
    ("Reconstruction", |loss| loss.reconstruction),
    ("Total", |loss| loss.total),
];

/// The section of the page; nothing where nothing was logged.
pub(super) fn section(stages: &[Stage]) -> String {
    if stages.iter().all(|stage| stage.logged().next().is_none()) {
        return String::new();
    }
    let all: Vec<Chart> = KINDS.iter().map(|(title, read)| chart(stages, title, *read)).collect();
    // Where the task is all there is, the total says nothing more.
    let alone = all[1..4].iter().all(|chart| chart.lines.is_empty());
    let charts = all.iter().filter(|chart| !chart.lines.is_empty());
    let shown = charts.take(if alone { 1 } else { usize::MAX });
    let body: String = shown.map(Chart::html).collect();
    let how =
        "Each loss on its own scale: the task's at the left, then what the search adds. Faint: as \
               logged. Strong: a running mean. The reconstruction is shown before it is weighted.";
    html::section("Losses", how, &format!("<div class=\"charts\">{body}</div>"))
}

/// One loss in all the stages that have it.
fn chart<'a>(stages: &'a [Stage], title: &'a str, read: Read) -> Chart<'a> {
    let hues = hues(stages);
    let mut lines = Vec::new();
    for (stage, hue) in stages.iter().zip(hues) {
        let mut points = of_steps(&stage.events, |metrics| Some(read(&metrics.loss)));
        // What ends with the search ends there, and is not 0 from there on.
        while points.last().is_some_and(|point| point[1] == 0.0) {
            points.pop();
        }
        if !points.is_empty() {
            lines.push(Line { name: &stage.name, hue, stroke: Stroke::Noisy, points });
        }
    }
    let decisions = stages.iter().filter_map(Stage::finished);
    let moments = decisions.map(|finished| Moment { step: finished.step as f64, name: "decided" });
    Chart {
        moments: moments.collect(),
        steps: stages.iter().map(Stage::extent).fold(0.0, f64::max),
        ..Chart::new(title, Unit::Plain, 150.0, lines)
    }
}
