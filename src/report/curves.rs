//! Sections with one curve a stage: accuracy, losses, schedules.

use super::chart::{Chart, Line, Mark, Stroke};
use super::format::Unit;
use super::html;
use super::scale::Scale;
use super::series::of_steps;
use super::stage::{hues, Stage};
use crate::search::{Losses, Phase, StepMetrics};

type ReadLoss = fn(&Losses) -> f64;
type Read = fn(&StepMetrics) -> Option<f64>;

/// Title, height in pixels, and value of each loss.
const LOSSES: [(&str, f64, ReadLoss); 5] = [
    ("Task loss", 190.0, |loss| loss.task),
    ("One-hot loss", 140.0, |loss| loss.one_hot),
    ("Budget loss", 140.0, |loss| loss.budget),
    ("Reconstruction loss", 140.0, |loss| loss.reconstruction),
    (TOTAL, 140.0, |loss| loss.total),
];
const TOTAL: &str = "Total loss";

/// Section "Accuracy"; empty without evaluations.
pub(super) fn accuracy(stages: &[Stage]) -> String {
    let hues = hues(stages);
    let lines: Vec<Line> = (stages.iter().zip(hues))
        .map(|(stage, hue)| Line {
            name: &stage.name,
            hue,
            stroke: Stroke::Dots,
            points: stage.top1(),
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let chart = Chart {
        steps: stages.iter().map(Stage::extent).fold(0.0, f64::max),
        ..Chart::new("Top-1 accuracy", Unit::Percent, 160.0, lines)
    };
    let how = "Share of held-out images whose highest logit belongs to the true class. Dots: the \
               steps at which it was evaluated, counted within each stage.";
    html::section("Accuracy", how, &chart.html())
}

/// Section "Losses"; empty without logged steps.
pub(super) fn losses(stages: &[Stage]) -> String {
    let charts = LOSSES.iter().map(|kind| loss_chart(stages, kind));
    let shown = charts.filter(|chart| !chart.lines.is_empty());
    let body: String = shown.map(|chart| chart.html()).collect();
    if body.is_empty() {
        return body;
    }
    let how = "Each loss on its own scale, over the steps of each stage. Faint: logged values; \
               strong: running mean over a twentieth of them. Task: cross-entropy, with a teacher \
               mixed with the distillation loss; the curve rises where the teacher\u{2019}s weight falls \
               over fine-tuning. One-hot: Σ weight · adaptive one-hot \
               loss over all dimensions (eq.\u{a0}8). Budget: \
               w·((F(α)\u{a0}−\u{a0}F*)/F₀)² (eq.\u{a0}9). Reconstruction: of masked image \
               modeling, before its weight in the total.";
    html::section("Losses", how, &format!("<div class=\"charts lead\">{body}</div>"))
}

/// One loss in all stages that have it.
fn loss_chart<'a>(
    stages: &'a [Stage],
    (title, height, read): &(&'a str, f64, ReadLoss),
) -> Chart<'a> {
    let mut lines = Vec::new();
    for (stage, hue) in stages.iter().zip(hues(stages)) {
        // In plain training the total equals the task loss.
        if *title == TOTAL && !stage.logged().any(|metrics| has_search_loss(&metrics.loss)) {
            continue;
        }
        let mut points = of_steps(&stage.events, |metrics| Some(read(&metrics.loss)));
        // Zeros at the end mean that the loss is no longer computed.
        while points.last().is_some_and(|point| point[1] == 0.0) {
            points.pop();
        }
        if !points.is_empty() {
            lines.push(Line { name: &stage.name, hue, stroke: Stroke::Noisy, points });
        }
    }
    let ends = stages.iter().filter_map(Stage::finished);
    let marks = ends.map(|finished| Mark { step: finished.step as f64, name: Mark::ALL_DECIDED });
    Chart {
        marks: marks.collect(),
        steps: stages.iter().map(Stage::extent).fold(0.0, f64::max),
        ..Chart::new(title, Unit::Plain, *height, lines)
    }
}

/// Whether a loss other than the task's is present.
fn has_search_loss(loss: &Losses) -> bool {
    [loss.one_hot, loss.budget, loss.reconstruction].iter().any(|loss| *loss != 0.0)
}

/// Section "Schedules"; empty without logged steps.
pub(super) fn schedules(stages: &[Stage]) -> String {
    let searched = |metrics: &StepMetrics| metrics.phase == Phase::Search;
    let lambda: Read = |metrics| Some(metrics.lambda);
    let charts = [
        Chart {
            range: Some(Scale::new(0.0, 1.0)),
            ..schedule(stages, "Importance weight λ", Unit::Plain, lambda, searched)
        },
        schedule(stages, "Mask ratio γ", Unit::Percent, |m| Some(m.mask_ratio), searched),
        schedule(stages, "Learning rate", Unit::Plain, |m| Some(m.lr), |_| true),
    ];
    let body: String =
        charts.iter().filter(|chart| !chart.lines.is_empty()).map(Chart::html).collect();
    if body.is_empty() {
        return body;
    }
    let how = "λ: weight of importance S against sparsity V in the bi-mask m = λ·S + (1 − λ)·V \
               (eq.\u{a0}5). γ: share of patch tokens masked for masked image modeling. Learning \
               rate: of the weights.";
    html::section("Schedules", how, &format!("<div class=\"charts\">{body}</div>"))
}

/// One scheduled value in all stages where it is not constantly 0.
fn schedule<'a>(
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
