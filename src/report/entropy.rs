//! Entropy of the candidate probabilities of every dimension, over the steps of a search.

use super::chart::step_axis;
use super::html;
use super::scale::Scale;
use super::series::{of_steps, thinned};
use super::stage::Stage;
use super::svg::{self, Place};
use crate::search::{Event, Phase};
use crate::space::Size;
use std::collections::BTreeMap;

/// Height of a row and of the curve in it, in pixels.
const ROW: f64 = 21.0;
const CURVE: f64 = 16.0;
/// Points a curve is thinned to.
const POINTS: usize = 120;

/// Section "Decisions"; empty without dimensions.
pub(super) fn section(stages: &[Stage]) -> String {
    let body: String = stages.iter().map(panels).collect();
    if body.is_empty() {
        return body;
    }
    let how = "Entropy −Σ p ln p / ln n of each dimension's candidate probabilities p, with n the \
               candidates it began with. Full height 1: all equally probable; 0: decided. Ticks: \
               units pruned. Dot: decided, with the size on the right; before that, the expected \
               size (≈).";
    html::section("Decisions", how, &body)
}

fn panels(stage: &Stage) -> String {
    let mut groups: BTreeMap<(usize, String), Vec<Row>> = BTreeMap::new();
    for row in rows(stage) {
        let (order, name) = group(&row.name);
        groups.entry((order, name)).or_default().push(row);
    }
    if groups.is_empty() {
        return String::new();
    }
    let last = stage.finished().map(|finished| finished.step);
    let last = last.or(stage.last_of_search().map(|metrics| metrics.step)).unwrap_or(0);
    let steps = Scale::new(0.0, last.max(1) as f64);
    let panel = |((order, name), mut rows): ((usize, String), Vec<Row>)| {
        rows.sort_by(|left, right| left.numbers.cmp(&right.numbers));
        panel(&name, &rows, HUES[order.min(HUES.len() - 1)], steps)
    };
    let panels: String = groups.into_iter().map(panel).collect();
    format!("<div class=\"panels\">{panels}</div>")
}

/// Curve and marks of one dimension.
struct Row {
    name: String,
    /// Numbers in its name: block, or stage and block.
    numbers: Vec<u64>,
    entropy: Vec<[f64; 2]>,
    /// Steps at which units were pruned.
    pruned: Vec<f64>,
    decided: Option<(f64, String)>,
    expected: Option<f64>,
}

fn rows(stage: &Stage) -> Vec<Row> {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let logged = stage.logged().flat_map(|metrics| metrics.dimensions.keys());
    let decided = stage.events.iter().filter_map(|event| match event {
        Event::Decided { dimension, .. } => Some(dimension),
        _ => None,
    });
    for name in logged.chain(decided) {
        rows.entry(name).or_insert_with(|| row(stage, name));
    }
    rows.into_values().collect()
}

fn row(stage: &Stage, name: &str) -> Row {
    let mut row = Row {
        name: name.into(),
        numbers: numbers(name).collect(),
        entropy: of_steps(&stage.events, |metrics| {
            let dimension = metrics.dimensions.get(name)?;
            (metrics.phase == Phase::Search).then_some(dimension.entropy)
        }),
        pruned: Vec::new(),
        decided: None,
        expected: stage.last_of_search().and_then(|m| Some(m.dimensions.get(name)?.expected)),
    };
    for event in &stage.events {
        match event {
            Event::Pruned(pruned) if pruned.units.contains_key(name) => {
                row.pruned.push(pruned.step as f64);
            }
            Event::Decided { step, dimension, heads, channels } if dimension == name => {
                let size = Size { heads: *heads, channels: *channels };
                row.decided = Some((*step as f64, size.to_string()));
            }
            _ => {}
        }
    }
    // A decided dimension has entropy 0.
    if let Some((step, _)) = row.decided {
        row.entropy.retain(|point| point[0] < step);
        row.entropy.push([step, 0.0]);
    }
    row
}

/// Numbers in a name, such as the index of a block.
pub(super) fn numbers(name: &str) -> impl Iterator<Item = u64> + '_ {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok())
}

/// Colours of the groups.
pub(super) const HUES: [&str; 5] = ["indigo", "teal", "rose", "ochre", "teal"];

/// Group of a dimension, as position and title: names that differ only in numbers are one group.
pub(super) fn group(name: &str) -> (usize, String) {
    let digit = |c: char| c.is_ascii_digit();
    match name.split(digit).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("n").as_str() {
        "embed" => (0, "Embedding channels".into()),
        "layers.n.embed" => (0, "Embedding channels, by stage".into()),
        "blocks.n.attn" => (1, "Attention heads × channels, by block".into()),
        "layers.n.blocks.n.attn" => (1, "Attention heads × channels, by stage.block".into()),
        "blocks.n.attn.qk" => (2, "Queries and keys: channels of a head, by block".into()),
        "layers.n.blocks.n.attn.qk" => {
            (2, "Queries and keys: channels of a head, by stage.block".into())
        }
        "blocks.n.mlp" => (3, "MLP hidden neurons, by block".into()),
        "layers.n.blocks.n.mlp" => (3, "MLP hidden neurons, by stage.block".into()),
        other => (4, other.into()),
    }
}

fn panel(name: &str, rows: &[Row], hue: &str, steps: Scale) -> String {
    let height = ROW * rows.len() as f64;
    let content: String =
        rows.iter().enumerate().map(|(at, row)| drawn(row, at, hue, steps)).collect();
    let words: Vec<String> = rows.iter().map(description).collect();
    let content = content + &step_axis(steps, height + 2.0, 4.0);
    let drawing = svg::drawing(height + 2.0, "", [name, &words.join(" ")], &content);
    html::figure("rows", name, "", &format!("<div class=\"plot\">{drawing}</div>"))
}

fn drawn(row: &Row, at: usize, hue: &str, steps: Scale) -> String {
    let top = ROW * at as f64 + ROW - CURVE;
    let place = Place { x: steps, y: Scale::new(0.0, 1.0), height: CURVE };
    let foot = top + CURVE;
    let points = thinned(&row.entropy, POINTS);
    let mut content = svg::line("grid", [0.0, foot], [1.0, foot]);
    content += &svg::stretched(top, CURVE, &svg::area(&format!("area {hue}"), &points, &place));
    for step in &row.pruned {
        let x = steps.place(*step);
        content += &svg::line("tick-mark", [x, foot - 5.0], [x, foot + 1.0]);
    }
    let label = row.numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
    content += &svg::text("tick y", [0.0, foot - 3.0], -8.0, &label);
    let (class, size) = match (&row.decided, row.expected) {
        (Some((step, size)), _) => {
            let x = svg::across(steps.place(*step));
            content +=
                &format!("<circle class=\"dot-mark {hue}\" cx=\"{x}\" cy=\"{foot}\" r=\"3\"/>");
            ("size side", size.clone())
        }
        (None, Some(size)) if size.is_finite() => ("size side open", format!("≈ {}", size.round())),
        _ => ("size side open", "?".into()),
    };
    content + &svg::text(class, [1.0, foot - 3.0], 10.0, &size)
}

/// Text description for screen readers.
fn description(row: &Row) -> String {
    let name = &row.name;
    match (&row.decided, row.entropy.last()) {
        (Some((step, size)), _) => format!("{name}: {size}, decided after step {step}."),
        (None, Some([step, entropy])) => format!("{name}: entropy {entropy:.2} at step {step}."),
        (None, None) => format!("{name}: no step logged."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_queries_and_keys_have_a_title_of_their_own() {
        let (order, title) = group("blocks.3.attn.qk");
        assert_eq!(title, "Queries and keys: channels of a head, by block");
        let (same, by_stage) = group("layers.2.blocks.5.attn.qk");
        assert_eq!(by_stage, "Queries and keys: channels of a head, by stage.block");
        assert_eq!(order, same);
        let others = ["embed", "blocks.3.attn", "blocks.3.mlp", "stages.0.width"];
        assert!(others.iter().all(|name| group(name).0 != order));
    }

    #[test]
    fn groups_of_dimensions_follow_their_names_and_numbers() {
        assert_eq!(group("blocks.11.attn"), group("blocks.2.attn"));
        assert_ne!(group("blocks.1.attn"), group("blocks.1.mlp"));
        assert_eq!(group("stages.0.width").1, "stages.n.width");
        assert_eq!(group("layers.2.blocks.5.attn").0, group("blocks.2.attn").0);
        assert_eq!(numbers("blocks.11.attn").collect::<Vec<_>>(), [11]);
        assert!(numbers("embed").next().is_none());
        let of = |name| numbers(name).collect::<Vec<_>>();
        assert!(of("layers.2.blocks.5.attn") < of("layers.2.blocks.10.attn"));
    }
}
