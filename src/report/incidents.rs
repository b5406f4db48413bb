//! What happened on the way: cuts, and steps that were not finite.

use super::format::{grouped, percent, Unit};
use super::html::{self, escape};
use super::progress::Stage;
use crate::search::{Event, NonFiniteAction, Pruned};

/// The section of the page; nothing where nothing happened.
pub(super) fn section(stages: &[Stage]) -> String {
    let body = guards(stages) + &cuts(stages);
    if body.is_empty() {
        return body;
    }
    let how = "What happened on the way. A cut that follows a fade_out moves no logit; one of the embedding \
               is seen by the norms.";
    html::section("Events", how, &body)
}

fn guards(stages: &[Stage]) -> String {
    let mut items = String::new();
    for stage in stages {
        for event in &stage.events {
            let Event::NonFinite { step, skipped, in_a_row, action } = event else { continue };
            let what = match action {
                NonFiniteAction::Skipped => "steps that were not finite moved nothing",
                NonFiniteAction::RolledBack => "the run went back to its last checkpoint",
                NonFiniteAction::Stopped => "the run was stopped",
            };
            items += &format!(
                "<li><b>{}, step {}</b> {what}: {in_a_row} in a row, {skipped} in all</li>",
                escape(&stage.name),
                grouped(*step)
            );
        }
    }
    if items.is_empty() {
        return items;
    }
    format!("<div class=\"alarm\"><h3>Not finite</h3><ul>{items}</ul></div>")
}

fn cuts(stages: &[Stage]) -> String {
    let cuts = stages.iter().flat_map(|stage| &stage.events).filter_map(|event| match event {
        Event::Pruned(cut) => Some(cut),
        _ => None,
    });
    let rows: Vec<String> = cuts.map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<details><summary>{} cuts</summary><div class=\"scroll\"><table><thead><tr>\
         <th scope=\"col\">step</th><th scope=\"col\">dimensions</th><th scope=\"col\">units</th>\
         <th scope=\"col\">MACs after</th><th scope=\"col\">logits move by</th></tr></thead>\
         <tbody>{}</tbody></table></div></details>",
        rows.len(),
        rows.concat()
    )
}

fn row(cut: &Pruned) -> String {
    let leaving: i64 = cut.units.values().map(|[before, after]| before - after).sum();
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>−{}</td><td>{}</td><td>{}</td></tr>",
        grouped(cut.step),
        cut.units.len(),
        grouped(leaving.unsigned_abs()),
        Unit::Count.value(cut.macs),
        percent(cut.total_jump / cut.logit_scale)
    )
}
