//! Measured sensitivity: the rise of the loss over the share of units kept, a chart a dimension.

use super::entropy::{group, numbers};
use super::format::{grouped, significant, Unit};
use super::html::{self, coloured};
use super::scale::Scale;
use super::svg::{self, Place};
use crate::sensitivity::{DimensionSensitivity, Sensitivity};
use std::collections::BTreeMap;

/// Height of a chart in pixels.
const HEIGHT: f64 = 90.0;
/// Colours of the numbers of heads, the largest number first.
const HUES: [&str; 4] = ["teal", "ochre", "indigo", "rose"];

/// Section "Sensitivity"; empty without a measurement.
pub(super) fn section(sensitivity: Option<&Sensitivity>) -> String {
    let Some(sensitivity) = sensitivity else { return String::new() };
    let mut groups: BTreeMap<(usize, String), Vec<&DimensionSensitivity>> = BTreeMap::new();
    for dimension in &sensitivity.dimensions {
        groups.entry(group(&dimension.name)).or_default().push(dimension);
    }
    let body: String = groups.iter_mut().map(|((_, name), own)| charts(name, own)).collect();
    if body.is_empty() {
        return body;
    }
    let how = format!(
        "Rise of the loss over the share of units kept, when this dimension alone is pruned to a \
         candidate size (dots), without training. Measured on {} images, where the dense network has \
         a loss of {}. Charts of one kind share their scale.",
        grouped(sensitivity.images as u64),
        significant(sensitivity.loss, 3)
    );
    html::section("Sensitivity", &how, &body)
}

/// The charts of all dimensions of one kind.
fn charts(name: &str, dimensions: &mut [&DimensionSensitivity]) -> String {
    dimensions.sort_by_key(|dimension| numbers(&dimension.name).collect::<Vec<_>>());
    let rises = dimensions.iter().flat_map(|dimension| &dimension.candidates);
    let y = Scale::over(rises.map(|candidate| candidate.rise.mean).chain([0.0]));
    let charts: String = dimensions.iter().map(|dimension| chart(dimension, y)).collect();
    html::figure("", name, "", &format!("<div class=\"charts\">{charts}</div>"))
}

/// Points (share of units kept, rise) of the candidates with the same number of heads, by that number.
fn lines(dimension: &DimensionSensitivity) -> Vec<(i64, Vec<[f64; 2]>)> {
    let mut lines: BTreeMap<i64, Vec<[f64; 2]>> = BTreeMap::new();
    for candidate in &dimension.candidates {
        let share = candidate.size.units() as f64 / dimension.size.units().max(1) as f64;
        lines.entry(candidate.size.heads).or_default().push([share, candidate.rise.mean]);
    }
    of_heads(lines)
}

/// Returns the lines by the number of heads, the largest first. A removed branch is a further point on the line of the
/// fewest heads.
pub(super) fn of_heads(mut lines: BTreeMap<i64, Vec<[f64; 2]>>) -> Vec<(i64, Vec<[f64; 2]>)> {
    let removed = lines.remove(&0).unwrap_or_default();
    match lines.values_mut().next() {
        Some(fewest) => fewest.splice(0..0, removed).for_each(drop),
        None if removed.is_empty() => {}
        None => drop(lines.insert(0, removed)),
    }
    lines.into_iter().rev().collect()
}

fn chart(dimension: &DimensionSensitivity, y: Scale) -> String {
    by_heads(&dimension.name, &lines(dimension), &description(dimension), y)
}

/// Chart of points (share of units kept, value) with a line for each number of heads, the largest first.
pub(super) fn by_heads(
    name: &str,
    lines: &[(i64, Vec<[f64; 2]>)],
    description: &str,
    y: Scale,
) -> String {
    let place = Place { x: Scale::new(0.0, 1.0), y, height: HEIGHT };
    let hues = HUES.iter().cycle();
    let (mut curves, mut legend) = (String::new(), Vec::new());
    for ((heads, points), hue) in lines.iter().zip(hues) {
        curves += &svg::curve(&format!("class=\"curve {hue}\""), points, &place);
        let dot = |point: &[f64; 2]| svg::curve(&format!("class=\"dot {hue}\""), &[*point], &place);
        curves += &points.iter().map(dot).collect::<String>();
        if lines.len() > 1 {
            let noun = if *heads == 1 { "head" } else { "heads" };
            legend.push(coloured(hue, &format!("{heads} {noun}")));
        }
    }
    let content = axes(&place) + &svg::stretched(0.0, HEIGHT, &curves);
    let drawing = svg::drawing(HEIGHT, "", [name, description], &content);
    let body = format!("<div class=\"plot\">{drawing}</div>");
    html::figure("chart", name, &legend.join(" "), &body)
}

fn axes(place: &Place) -> String {
    let mut axes = String::new();
    for tick in place.y.ticks(3.0) {
        let y = place.y(tick);
        axes += &svg::line("grid", [0.0, y], [1.0, y]);
        axes += &svg::text("tick y", [0.0, y + 3.5], -8.0, &Unit::Plain.tick(tick));
    }
    axes += &svg::line("axis", [0.0, HEIGHT], [1.0, HEIGHT]);
    for (share, class) in [(0.0, "tick first"), (0.5, "tick"), (1.0, "tick last")] {
        axes += &svg::line("axis", [share, HEIGHT], [share, HEIGHT + 4.0]);
        axes += &svg::text(class, [share, HEIGHT + 17.0], 0.0, &Unit::Percent.tick(share));
    }
    axes
}

/// Text description for screen readers.
fn description(dimension: &DimensionSensitivity) -> String {
    let candidate = |own: &crate::sensitivity::CandidateSensitivity| {
        let (rise, error) =
            (significant(own.rise.mean, 3), significant(own.rise.standard_error, 2));
        format!("{}: {rise} ± {error}.", own.size)
    };
    dimension.candidates.iter().map(candidate).collect::<Vec<_>>().join(" ")
}
