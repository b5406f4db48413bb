//! The top of the page: what it is about, how far it is, what came of it.

use super::format::{grouped, percent, significant, Unit, NONE};
use super::html::escape;
use super::page::Report;
use super::progress::Stage;
use super::svg;
use crate::cost::{CostLimit, Metric};
use crate::search::Phase;

/// Title, state, facts and figures.
pub(super) fn head(report: &Report) -> String {
    let fact = |(name, value): &(String, String)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value))
    };
    let facts: String = report.facts.iter().map(fact).collect();
    let facts = if facts.is_empty() { facts } else { format!("<dl class=\"facts\">{facts}</dl>") };
    let figures =
        [cost(report, Metric::Macs), cost(report, Metric::Params), top1(report), speed(report)];
    format!(
        "<header><p class=\"state\">{}</p><h1>{}</h1>{facts}<div class=\"figures\">{}</div></header>\n",
        escape(&state(report)),
        escape(report.title()),
        figures.concat()
    )
}

/// Where the run is.
fn state(report: &Report) -> String {
    let stages = &report.stages;
    // Stages follow on a subnet: fine-tuning, the dense network beside it.
    let all_done = stages.iter().all(|stage| stage.steps.is_none() || stage.is_done());
    if report.subnet.is_some() && all_done {
        return "finished".into();
    }
    let begun = stages.iter().rposition(|stage| stage.done() > 0).unwrap_or(0);
    let Some(stage) = stages.get(begun) else { return "nothing has run yet".into() };
    let (done, name) = (grouped(stage.done()), &stage.name);
    let next = stages.get(begun + 1);
    match (stage.steps, stage.is_done(), next) {
        (_, true, Some(next)) => format!("{name}: all {done} steps done, {} is next", next.name),
        (_, true, None) if stage.searches() => {
            format!("{name}: all {done} steps done, nothing extracted yet")
        }
        (_, true, None) => format!("{name}: all {done} steps done"),
        (Some(steps), ..) => {
            let share = stage.done() as f64 / steps.max(1) as f64;
            format!("{name}: step {done} of {}, {}", grouped(steps), percent(share))
        }
        (None, ..) => format!("{name}: step {done}"),
    }
}

/// One figure: its name, the number, what it was before, and a bar if it is a share.
fn figure(name: &str, number: &str, before: &str, bar: &str) -> String {
    let (name, number, before) = (escape(name), escape(number), escape(before));
    format!("<div><h3>{name}</h3><p class=\"number\">{number}</p><p>{before}</p>{bar}</div>")
}

/// MACs or parameters: of the subnet, or as they are expected now.
fn cost(report: &Report, metric: Metric) -> String {
    let name = match metric {
        Metric::Macs => "MACs",
        Metric::Params => "Parameters",
    };
    let budget = report.budgets.iter().find(|budget| budget.metric == metric);
    let any = CostLimit { metric, limit: f64::NAN };
    let dense = report.dense.as_ref().map(|network| network.cost(&any));
    let subnet = report.subnet.as_ref().map(|network| network.cost(&any));
    let expected = report.stages.iter().rev().find_map(Stage::last_of_search);
    let expected = expected.filter(|_| metric == Metric::Macs).map(|metrics| metrics.macs_expected);
    let now = subnet.or(expected);
    let write = |value| Unit::Count.value(value);
    let number = now.or(dense).map_or(NONE.into(), write);
    let before = match (now, dense) {
        (Some(now), Some(dense)) if (now / dense).is_finite() => {
            let what = if subnet.is_some() { "of" } else { "expected, of" };
            format!("{} {what} {}", percent(now / dense), write(dense))
        }
        (None, Some(_)) => "dense".into(),
        _ => String::new(),
    };
    let bar = match dense {
        Some(dense) => bar(name, now.map(|now| now / dense), budget.map(|b| b.limit / dense)),
        None => String::new(),
    };
    figure(name, &number, &before, &bar)
}

/// A share of the dense network, with a mark at the budget.
fn bar(name: &str, share: Option<f64>, budget: Option<f64>) -> String {
    let finite = |share: &f64| share.is_finite();
    let (share, budget) = (share.filter(finite), budget.filter(finite));
    let mut content = svg::rect("dense", [0.0, 3.0], [1.0, 8.0]);
    content += &svg::rect("kept", [0.0, 3.0], [share.unwrap_or(0.0).clamp(0.0, 1.0), 8.0]);
    if let Some(budget) = budget {
        let x = budget.clamp(0.0, 1.0);
        let class = if x > 0.6 { "tick last" } else { "tick first" };
        content += &svg::line("limit", [x, 0.0], [x, 14.0]);
        content += &svg::text(class, [x, 25.0], 0.0, &format!("budget {}", percent(budget)));
    }
    let words = format!(
        "{} of the dense network, budget {}",
        share.map_or(NONE.into(), percent),
        budget.map_or(NONE.into(), percent)
    );
    svg::drawing(28.0, "", [name, &words], &content)
}

/// Top-1 of the subnet, or the last that was measured.
fn top1(report: &Report) -> String {
    let dense = report.dense.as_ref().and_then(|network| network.top1);
    let subnet = report.subnet.as_ref().and_then(|network| network.top1);
    let (number, before) = match (subnet, dense) {
        (Some(subnet), Some(dense)) => {
            let points = 100.0 * (subnet - dense);
            let sign = if points >= 0.05 { "+" } else { "" };
            let change = significant((10.0 * points).round() / 10.0, 2);
            (percent(subnet), format!("{sign}{change} points on {} dense", percent(dense)))
        }
        (Some(subnet), None) => (percent(subnet), String::new()),
        (None, Some(dense)) => (percent(dense), "dense".into()),
        (None, None) => return last_top1(report),
    };
    figure("Top-1", &number, &before, "")
}

fn last_top1(report: &Report) -> String {
    let last = report.stages.iter().rev().find_map(|stage| {
        let (step, top1) = super::accuracy::measured(stage).last().map(|[s, top1]| (*s, *top1))?;
        Some((percent(top1), format!("{}, step {}", stage.name, grouped(step as u64))))
    });
    let (number, before) = last.unwrap_or((NONE.into(), "not measured yet".into()));
    figure("Top-1", &number, &before, "")
}

/// How much faster the subnet is, at the largest batch measured.
fn speed(report: &Report) -> String {
    let Some(latency) = report.latency.iter().max_by_key(|latency| latency.batch) else {
        return step_time(report);
    };
    let ratio = latency.dense_ms / latency.subnet_ms;
    let ms = |value| significant(value, 3);
    let number = match ratio.is_finite() {
        true => format!("{}×", significant(ratio, 3)),
        false => NONE.into(),
    };
    let before = format!(
        "{} → {} ms, batch {}, {}",
        ms(latency.dense_ms),
        ms(latency.subnet_ms),
        latency.batch,
        latency.device
    );
    figure("Speed", &number, &before, "")
}

/// Before anything can be measured: how long a step takes.
fn step_time(report: &Report) -> String {
    let last = report.stages.iter().rev().find_map(|stage| stage.logged().next_back());
    let Some(last) = last else { return figure("Speed", NONE, "not measured yet", "") };
    let what = match last.phase {
        Phase::Search => "a step of the search",
        Phase::Finetune => "a step of training",
    };
    figure("Step time", &format!("{} ms", significant(last.step_ms, 3)), what, "")
}
