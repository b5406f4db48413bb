//! The way to the budget.

use super::chart::{Chart, Level, Line, Moment, Stroke};
use super::format::{percent, Unit, NONE};
use super::html;
use super::page::Report;
use super::progress::Stage;
use super::scale::Scale;
use super::series::of_steps;
use crate::cost::{CostLimit, Metric};
use crate::search::{Event, Phase};

/// The section of the page: MACs over the steps of every search, and the budgets.
pub(super) fn section(report: &Report) -> String {
    let searches = report.stages.iter().filter(|stage| stage.searches());
    let charts: String = searches.map(|stage| chart(report, stage).html()).collect();
    let body = charts + &table(report);
    if body.is_empty() {
        return body;
    }
    let how =
        "MACs at the expected sizes, and of the network as it stands: it shrinks at every cut \
               (thin lines). The result never costs more than the budget.";
    html::section("Budget", how, &body)
}

fn chart<'a>(report: &'a Report, stage: &'a Stage) -> Chart<'a> {
    let expected = of_steps(&stage.events, |metrics| {
        (metrics.phase == Phase::Search).then_some(metrics.macs_expected)
    });
    let mut active = of_steps(&stage.events, |metrics| Some(metrics.macs_current));
    active.extend(cuts(stage).map(|(step, macs)| [step, macs]));
    active.sort_by(|left, right| left[0].total_cmp(&right[0]));
    let line = |name, hue, stroke, points| Line { name, hue, stroke, points };
    let lines = vec![
        line("expected", "ochre", Stroke::Solid, expected),
        line("active", "teal", Stroke::Stairs, active),
    ];
    let macs = report.budgets.iter().filter(|budget| budget.metric == Metric::Macs);
    let level =
        |name: &str, value| Level { value, name: format!("{name} {}", Unit::Count.value(value)) };
    let mut levels: Vec<Level> = macs.map(|budget| level("budget", budget.limit)).collect();
    levels.extend(report.dense.as_ref().map(|dense| level("dense", dense.macs)));
    let mut moments: Vec<Moment> = cuts(stage).map(|(step, _)| Moment { step, name: "" }).collect();
    moments.extend(stage.finished().map(|f| Moment { step: f.step as f64, name: "decided" }));
    let values = lines.iter().flat_map(|line| &line.points).map(|point| point[1]);
    let most = values.chain(levels.iter().map(|level| level.value)).filter(|v| v.is_finite());
    let range = Some(Scale::new(0.0, 1.06 * most.fold(0.0, f64::max)));
    let steps = stage.extent();
    Chart { levels, moments, range, steps, ..Chart::new("MACs", Unit::Count, 240.0, lines) }
}

/// Steps of the cuts, and MACs after them.
fn cuts(stage: &Stage) -> impl Iterator<Item = (f64, f64)> + '_ {
    stage.events.iter().filter_map(|event| match event {
        Event::Pruned(cut) => Some((cut.step as f64, cut.macs)),
        _ => None,
    })
}

/// Target, dense and reached cost under each budget.
fn table(report: &Report) -> String {
    if report.budgets.is_empty() {
        return String::new();
    }
    let rows: String = report.budgets.iter().map(|budget| row(report, budget)).collect();
    format!(
        "<table><thead><tr><th scope=\"col\">budget</th><th scope=\"col\">limit</th>\
         <th scope=\"col\">dense</th><th scope=\"col\">reached</th>\
         <th scope=\"col\">of the limit</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}

fn row(report: &Report, budget: &CostLimit) -> String {
    let write = |value: Option<f64>| value.map_or(NONE.into(), |value| Unit::Count.value(value));
    let dense = report.dense.as_ref().map(|network| network.cost(budget));
    let reached = report.subnet.as_ref().map(|network| network.cost(budget));
    let share = reached.map_or(NONE.into(), |reached| percent(reached / budget.limit));
    let name = budget.metric.name();
    let (limit, dense, reached) = (write(Some(budget.limit)), write(dense), write(reached));
    format!(
        "<tr><th scope=\"row\">{name}</th><td>{limit}</td><td>{dense}</td><td>{reached}</td><td>{share}</td></tr>"
    )
}
