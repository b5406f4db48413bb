//! Prune steps and non-finite steps.

use super::format::{grouped, percent, Unit};
use super::html::{self, escape};
use super::stage::Stage;
use crate::search::{Event, Pruned};

/// Section "Events"; empty if there are none.
pub(super) fn section(stages: &[Stage]) -> String {
    let body = non_finite(stages) + &prune_steps(stages);
    if body.is_empty() {
        return body;
    }
    let how =
        "Prune steps, and steps whose loss or gradient was not finite. Logit change: largest \
               change of a logit by a prune step, relative to the largest logit. Pruning units \
               whose gates have faded to 0 changes none; pruning embedding channels does, since \
               LayerNorm averages over them.";
    html::section("Events", how, &body)
}

/// Notice of skipped steps, rollbacks and a stop.
fn non_finite(stages: &[Stage]) -> String {
    let mut items = String::new();
    for stage in stages {
        for event in &stage.events {
            let Event::NonFinite { step, skipped, in_a_row, action, first, unusable } = event
            else {
                continue;
            };
            items += &format!(
                "<li><b>{}, step {}</b> {action}: {in_a_row} non-finite steps in a row, {skipped} in \
                 all{}{}</li>",
                escape(&stage.name),
                grouped(*step),
                listed("first", first),
                listed("unusable checkpoints", unusable)
            );
        }
    }
    if items.is_empty() {
        return items;
    }
    format!("<div class=\"alarm\"><h3>Non-finite loss or gradient</h3><ul>{items}</ul></div>")
}

/// Returns "; NAME: a, b"; nothing without entries.
fn listed(name: &str, entries: &[String]) -> String {
    match entries.is_empty() {
        true => String::new(),
        false => escape(&format!("; {name}: {}", entries.join(", "))),
    }
}

/// Table of the prune steps that pruned units.
fn prune_steps(stages: &[Stage]) -> String {
    let pruned = stages.iter().flat_map(|stage| &stage.events).filter_map(|event| match event {
        Event::Pruned(pruned) => Some(pruned),
        _ => None,
    });
    let rows: Vec<String> = pruned.map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<details><summary>prune steps: {}</summary><div class=\"scroll\"><table><thead><tr>\
         <th scope=\"col\">optimiser step</th><th scope=\"col\">dimensions pruned</th>\
         <th scope=\"col\">units pruned</th><th scope=\"col\">current MACs</th>\
         <th scope=\"col\">logit change</th></tr></thead>\
         <tbody>{}</tbody></table></div></details>",
        rows.len(),
        rows.concat()
    )
}

fn row(pruned: &Pruned) -> String {
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        grouped(pruned.step),
        pruned.units.len(),
        grouped(pruned.pruned_units().unsigned_abs()),
        Unit::Count.value(pruned.macs),
        percent(pruned.total_jump / pruned.logit_scale)
    )
}
