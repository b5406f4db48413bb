//! What the optimiser sees.

use super::chart::{Chart, Line, Moment, Stroke};
use super::format::Unit;
use super::html;
use super::progress::{hues, Stage};
use super::series::of_steps;
use crate::search::Losses;

type Read = fn(&Losses) -> f64;

/// Name, height in pixels, and which it is.
const KINDS: [(&str, f64, Read); 5] = [
    ("Task", 190.0, |loss| loss.task),
    ("One-hot", 140.0, |loss| loss.one_hot),
    ("Budget", 140.0, |loss| loss.budget),
    ("Reconstruction", 140.0, |loss| loss.reconstruction),
    ("Total", 140.0, |loss| loss.total),
];

/// The section of the page; nothing where nothing was logged.
pub(super) fn section(stages: &[Stage]) -> String {
    let charts = KINDS.iter().map(|kind| chart(stages, kind));
    let shown = charts.filter(|chart| !chart.lines.is_empty());
    let body: String = shown.map(|chart| chart.html()).collect();
    if body.is_empty() {
        return body;
    }
    let how = "Each loss on its own scale: the task's first, then what the search adds. Faint: as \
               logged. Strong: a running mean. The reconstruction is shown before it is weighted.";
    html::section("Losses", how, &format!("<div class=\"charts lead\">{body}</div>"))
}

/// One loss in all the stages that have it.
fn chart<'a>(stages: &'a [Stage], (title, height, read): &(&'a str, f64, Read)) -> Chart<'a> {
    let mut lines = Vec::new();
    for (stage, hue) in stages.iter().zip(hues(stages)) {
        // Where the task is all there is, the total says nothing more.
        if *title == "Total" && !stage.logged().any(|metrics| has_more(&metrics.loss)) {
            continue;
        }
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
        ..Chart::new(title, Unit::Plain, *height, lines)
    }
}

/// Whether there is more than the task.
fn has_more(loss: &Losses) -> bool {
    [loss.one_hot, loss.budget, loss.reconstruction].iter().any(|loss| *loss != 0.0)
}
