//! Expected and current cost over the steps of a search, and the budgets.

use super::chart::{Chart, Level, Line, Mark, Stroke};
use super::format::{grouped, percent, significant, Unit, NONE};
use super::html;
use super::page::Report;

use super::scale::Scale;
use super::series::of_steps;
use super::stage::Stage;
use crate::cost::{CostLimit, Metric};
use crate::search::{Event, LatencyCheck, Phase};

/// Section "Cost and budget": MACs over the steps of every search, and a table of the budgets.
pub(super) fn section(report: &Report) -> String {
    let searches = report.stages.iter().filter(|stage| stage.searches());
    let charts: String = searches.map(|stage| chart(report, stage).html()).collect();
    let body = charts + &table(report) + &checks(report);
    if body.is_empty() {
        return body;
    }
    let how = "MACs: multiply-accumulates of one image. Expected cost F(α): at the expected sizes \
               Σ\u{a0}p·size; the budget loss w·((F(α)\u{a0}−\u{a0}F*)/F₀)² draws it to the \
               budget F*. Current cost: at the present sizes; it falls at each prune step (dotted \
               lines). The subnet costs at most the budgets of MACs and parameters; its latency is predicted \
               within its budget, and may be measured above it.";
    html::section("Cost and budget", how, &body)
}

fn chart<'a>(report: &'a Report, stage: &'a Stage) -> Chart<'a> {
    let expected = of_steps(&stage.events, |metrics| {
        (metrics.phase == Phase::Search).then_some(metrics.macs_expected)
    });
    let mut current = of_steps(&stage.events, |metrics| Some(metrics.macs_current));
    current.extend(stage.prunings());
    current.sort_by(|left, right| left[0].total_cmp(&right[0]));
    let line = |name, hue, stroke, points| Line { name, hue, stroke, points };
    let lines = vec![
        line("expected cost", "ochre", Stroke::Solid, expected),
        line("current cost", "teal", Stroke::Stairs, current),
    ];
    let macs = report.budgets.iter().filter(|budget| budget.metric == Metric::Macs);
    let level =
        |name: &str, value| Level { value, name: format!("{name} {}", Unit::Count.value(value)) };
    let mut levels: Vec<Level> = macs.map(|budget| level("budget", budget.limit)).collect();
    levels.extend(report.dense.as_ref().map(|dense| level("dense network", dense.macs)));
    let mut marks: Vec<Mark> = stage.prunings().map(|[step, _]| Mark { step, name: "" }).collect();
    let end = stage.finished();
    marks.extend(end.map(|end| Mark { step: end.step as f64, name: Mark::ALL_DECIDED }));
    let values = lines.iter().flat_map(|line| &line.points).map(|point| point[1]);
    let most = values.chain(levels.iter().map(|level| level.value)).filter(|v| v.is_finite());
    let range = Some(Scale::new(0.0, 1.06 * most.fold(0.0, f64::max)));
    let steps = stage.extent();
    Chart {
        levels,
        marks,
        range,
        steps,
        ..Chart::new("MACs of one image", Unit::Count, 240.0, lines)
    }
}

/// Table of the budgets: limit, and cost of dense network and subnet.
fn table(report: &Report) -> String {
    if report.budgets.is_empty() {
        return String::new();
    }
    let rows: String = report.budgets.iter().map(|budget| row(report, budget)).collect();
    format!(
        "<table><thead><tr><th scope=\"col\">budget on</th><th scope=\"col\">limit</th>\
         <th scope=\"col\">dense network</th><th scope=\"col\">subnet</th>\
         <th scope=\"col\">subnet / limit</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}

/// Table of the latencies that were asked, predicted and measured when sizes were chosen; empty without a latency
/// budget.
fn checks(report: &Report) -> String {
    let events = report.stages.iter().flat_map(|stage| &stage.events);
    let rows = events.filter_map(|event| match event {
        Event::Latency(check) => Some(check_row(check)),
        _ => None,
    });
    let rows: String = rows.collect();
    if rows.is_empty() {
        return rows;
    }
    let heads = [
        "choice after step",
        "asked, ms",
        "predicted, ms",
        "measured, ms",
        "measured / asked",
        "outcome",
    ];
    let heads = heads.map(|head| format!("<th scope=\"col\">{head}</th>")).concat();
    format!("<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>")
}

fn check_row(check: &LatencyCheck) -> String {
    let LatencyCheck { step, asked_ms, predicted_ms, measured, outcome } = check;
    let ms = |value: f64| significant(value, 4);
    let own = measured.map_or("not on this device".into(), |own| {
        format!("{} ± {}", ms(own.ms), significant(own.standard_error, 2))
    });
    let ratio = measured.map_or(NONE.into(), |own| percent(own.ms / asked_ms));
    let (asked, predicted) = (ms(*asked_ms), ms(*predicted_ms));
    format!(
        "<tr><th scope=\"row\">{}</th><td>{asked}</td><td>{predicted}</td><td>{own}</td>\
         <td>{ratio}</td><td>{outcome}</td></tr>",
        grouped(*step)
    )
}

fn row(report: &Report, budget: &CostLimit) -> String {
    let write = |value: Option<f64>| value.map_or(NONE.into(), |value| Unit::Count.value(value));
    let dense = report.dense.as_ref().and_then(|network| network.cost(budget.metric));
    let subnet = report.subnet.as_ref().and_then(|network| network.cost(budget.metric));
    let share = subnet.map_or(NONE.into(), |subnet| percent(subnet / budget.limit));
    let name = budget.metric.name();
    let (limit, dense, subnet) = (write(Some(budget.limit)), write(dense), write(subnet));
    format!(
        "<tr><th scope=\"row\">{name}</th><td>{limit}</td><td>{dense}</td><td>{subnet}</td>\
         <td>{share}</td></tr>"
    )
}
