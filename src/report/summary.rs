//! Header of the page: title, progress, facts, and four figures.

use super::format::{grouped, percent, significant, Unit, NONE};
use super::html::escape;
use super::page::Report;
use super::stage::Stage;
use super::svg;
use crate::cost::Metric;
use crate::search::Phase;

/// The header element.
pub(super) fn header(report: &Report) -> String {
    let fact = |(name, value): &(String, String)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value))
    };
    let facts: String = report.facts.iter().map(fact).collect();
    let facts = if facts.is_empty() { facts } else { format!("<dl class=\"facts\">{facts}</dl>") };
    let figures =
        [cost(report, Metric::Macs), cost(report, Metric::Params), top1(report), speed(report)];
    format!(
        "<header><p class=\"state\">{}</p><h1>{}</h1>{facts}\
         <div class=\"figures\">{}</div></header>\n",
        escape(&state(report)),
        escape(report.title()),
        figures.concat()
    )
}

/// Progress of the run in words.
fn state(report: &Report) -> String {
    let stages = &report.stages;
    // Further stages can follow an extraction, such as fine-tuning of the subnet.
    let all_done = stages.iter().all(|stage| stage.steps.is_none() || stage.is_done());
    if report.subnet.is_some() && all_done {
        return "finished".into();
    }
    let begun = stages.iter().rposition(|stage| stage.done() > 0).unwrap_or(0);
    let Some(stage) = stages.get(begun) else { return "no step done yet".into() };
    let (done, name) = (grouped(stage.done()), &stage.name);
    let next = stages.get(begun + 1);
    match (stage.steps, stage.is_done(), next) {
        (_, true, Some(next)) => format!("{name}: all {done} steps done; next: {}", next.name),
        (_, true, None) if stage.searches() => {
            format!("{name}: all {done} steps done, no subnet extracted yet")
        }
        (_, true, None) => format!("{name}: all {done} steps done"),
        (Some(steps), ..) => {
            let share = stage.done() as f64 / steps.max(1) as f64;
            format!("{name}: step {done} of {}, {}", grouped(steps), percent(share))
        }
        (None, ..) => format!("{name}: step {done}"),
    }
}

/// One figure: its name, the number, a note, and a bar if it is a share.
fn figure(name: &str, number: &str, note: &str, bar: &str) -> String {
    let (name, number, note) = (escape(name), escape(number), escape(note));
    format!("<div><h3>{name}</h3><p class=\"number\">{number}</p><p>{note}</p>{bar}</div>")
}

/// MACs or parameters: of the subnet, or during a search the expected MACs.
fn cost(report: &Report, metric: Metric) -> String {
    let budget = report.budgets.iter().find(|budget| budget.metric == metric);
    let dense = report.dense.as_ref().and_then(|network| network.cost(metric));
    let subnet = report.subnet.as_ref().and_then(|network| network.cost(metric));
    let expected = report.stages.iter().rev().find_map(Stage::last_of_search);
    let expected = expected.filter(|_| metric == Metric::Macs).map(|metrics| metrics.macs_expected);
    let now = subnet.or(expected);
    let name = match (subnet, expected, dense) {
        (Some(_), ..) => format!("{}, subnet", capitalised(metric)),
        (_, Some(_), _) => format!("{}, expected cost", capitalised(metric)),
        (_, _, Some(_)) => format!("{}, dense network", capitalised(metric)),
        _ => capitalised(metric).into(),
    };
    let number = now.or(dense).map_or(NONE.into(), |value| Unit::Count.value(value));
    let note = match (now, dense) {
        (Some(now), Some(dense)) if (now / dense).is_finite() => {
            format!("{} of the dense {}", percent(now / dense), Unit::Count.value(dense))
        }
        (None, Some(_)) => String::new(),
        (None, None) => "not known yet".into(),
        _ => String::new(),
    };
    let bar = match dense {
        Some(dense) if now.is_some() || budget.is_some() => {
            bar(&name, now.map(|now| now / dense), budget.map(|b| b.limit / dense))
        }
        _ => String::new(),
    };
    figure(&name, &number, &note, &bar)
}

fn capitalised(metric: Metric) -> &'static str {
    match metric {
        Metric::Macs => "MACs",
        Metric::Params => "Parameters",
        Metric::Latency => "Latency",
    }
}

/// Bar of a share of the dense network's cost, with a mark at the budget.
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
    let description = format!(
        "{} of the dense network, budget {}",
        share.map_or(NONE.into(), percent),
        budget.map_or(NONE.into(), percent)
    );
    svg::drawing(28.0, "", [name, &description], &content)
}

/// Top-1 accuracy: of the subnet and the dense network, or the last one evaluated.
fn top1(report: &Report) -> String {
    let dense = report.dense.as_ref().and_then(|network| network.top1);
    let subnet = report.subnet.as_ref().and_then(|network| network.top1);
    match (subnet, dense) {
        (Some(subnet), Some(dense)) => {
            let points = 100.0 * (subnet - dense);
            let sign = if points >= 0.05 { "+" } else { "" };
            let change = significant((10.0 * points).round() / 10.0, 2);
            let note = format!("{sign}{change} points against the dense {}", percent(dense));
            figure("Top-1 accuracy, subnet", &percent(subnet), &note, "")
        }
        (Some(subnet), None) => figure("Top-1 accuracy, subnet", &percent(subnet), "", ""),
        (None, Some(dense)) => figure("Top-1 accuracy, dense network", &percent(dense), "", ""),
        (None, None) => last_top1(report),
    }
}

fn last_top1(report: &Report) -> String {
    let last = report.stages.iter().rev().find_map(|stage| {
        let [step, top1] = stage.top1().pop()?;
        Some((percent(top1), format!("{}, step {}", stage.name, grouped(step as u64))))
    });
    let (number, note) = last.unwrap_or((NONE.into(), "not evaluated yet".into()));
    figure("Top-1 accuracy", &number, &note, "")
}

/// Speed-up at the largest measured batch; before a measurement, time per step.
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
    let note = format!(
        "{} → {} ms a batch of {}, {}",
        ms(latency.dense_ms),
        ms(latency.subnet_ms),
        latency.batch,
        latency.device
    );
    figure("Speed-up of the subnet", &number, &note, "")
}

/// Wall time of the last logged step.
fn step_time(report: &Report) -> String {
    let last = report.stages.iter().rev().find_map(|stage| stage.logged().next_back());
    let Some(last) = last else { return figure("Speed-up", NONE, "not measured yet", "") };
    let what = match last.phase {
        Phase::Search => "optimiser step of the search",
        Phase::Finetune => "optimiser step of training",
    };
    figure("Time per step", &format!("{} ms", significant(last.step_ms, 3)), what, "")
}
