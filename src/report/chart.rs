//! Charts of curves over optimiser steps, with axes.

use super::format::Unit;
use super::html::{coloured, figure};
use super::scale::Scale;
use super::series::{smoothed, thinned};
use super::svg::{self, Place};

/// Points a curve is thinned to.
const POINTS: usize = 260;

/// Height in pixels above which a chart has the full page width, and more ticks.
const WIDE: f64 = 150.0;

/// Style of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    /// Straight between points.
    Solid,
    /// Points faint, their running mean strong.
    Noisy,
    /// Each value holds until the next point.
    Stairs,
    /// Straight between points, with a dot at each.
    Dots,
}

/// One curve.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) hue: &'static str,
    pub(super) stroke: Stroke,
    pub(super) points: Vec<[f64; 2]>,
}

/// A vertical line at a step.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) step: f64,
    /// Label at the top; empty for a dotted line without label.
    pub(super) name: &'static str,
}

impl Mark {
    /// Label of the step at which the last dimension was decided.
    pub(super) const ALL_DECIDED: &'static str = "all decided";
}

/// A horizontal line at a value, with a label.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) value: f64,
    pub(super) name: String,
}

/// Curves over optimiser steps.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) unit: Unit,
    pub(super) height: f64,
    pub(super) lines: Vec<Line<'a>>,
    pub(super) levels: Vec<Level>,
    pub(super) marks: Vec<Mark>,
    /// Range of the value axis; computed from the values if `None`.
    pub(super) range: Option<Scale>,
    /// Least upper end of the step axis.
    pub(super) steps: f64,
}

impl<'a> Chart<'a> {
    /// A chart of `lines` without marks and levels.
    pub(super) fn new(title: &'a str, unit: Unit, height: f64, lines: Vec<Line<'a>>) -> Self {
        let (levels, marks) = (Vec::new(), Vec::new());
        Self { title, unit, height, lines, levels, marks, range: None, steps: 0.0 }
    }

    /// The chart as a figure, with the names and last values of its lines in the caption.
    pub(super) fn html(&self) -> String {
        let place = self.place();
        let mut content = self.axes(&place);
        // Labels are drawn over the curves, lines under them.
        let mut labels = String::new();
        for level in self.levels.iter().filter(|level| level.value.is_finite()) {
            let y = place.y(level.value);
            content += &svg::line("level", [0.0, y], [1.0, y]);
            labels += &svg::text("level-name", [1.0, y - 5.0], 0.0, &level.name);
        }
        for mark in &self.marks {
            content += &mark_line(mark, &place);
        }
        let curves: String = self.lines.iter().map(|line| drawn(line, &place)).collect();
        content += &svg::stretched(0.0, self.height, &curves);
        content += &labels;
        if self.lines.iter().all(|line| last_of(&line.points).is_none()) {
            content += &svg::text("empty", [0.5, self.height / 2.0], 0.0, "no step logged yet");
        }
        let domain = [place.x.low, place.x.high, place.y.low, place.y.high];
        let domain = domain.map(|value| value.to_string()).join(" ");
        let cut = self.cut(&place.y);
        let attributes = format!(
            " data-domain=\"{domain}\" data-cut=\"{cut}\" data-unit=\"{}\"",
            self.unit.key()
        );
        let description = self.description();
        let drawing = svg::drawing(self.height, &attributes, [self.title, &description], &content);
        let body = format!("<div class=\"plot\">{drawing}</div>");
        figure("chart", self.title, &self.legend(&place), &body)
    }

    /// At which ends of the axis values are beyond it, and drawn on its end.
    fn cut(&self, axis: &Scale) -> &'static str {
        let any = |beyond: &dyn Fn(f64) -> bool| {
            let mut values = self.lines.iter().flat_map(|line| &line.points).map(|point| point[1]);
            values.any(|value| value.is_finite() && beyond(value))
        };
        let room = 1e-9 * (axis.high - axis.low);
        let (above, below) =
            (any(&|value| value > axis.high + room), any(&|value| value < axis.low - room));
        match (above, below) {
            (true, true) => "above below",
            (true, false) => "above",
            (false, true) => "below",
            (false, false) => "",
        }
    }

    fn place(&self) -> Place {
        let steps = self.lines.iter().flat_map(|line| &line.points).map(|point| point[0]);
        let last = steps.chain(self.marks.iter().map(|m| m.step)).fold(self.steps, f64::max);
        let values = self.lines.iter().flat_map(|line| &line.points).map(|point| point[1]);
        let levels = self.levels.iter().map(|level| level.value);
        let noisy = self.lines.iter().any(|line| line.stroke == Stroke::Noisy);
        let y = self.range.unwrap_or_else(|| match noisy {
            true => Scale::over_most(values),
            false => Scale::over(values.chain(levels)),
        });
        Place { x: Scale::new(0.0, last.max(1.0)), y, height: self.height }
    }

    fn axes(&self, place: &Place) -> String {
        let mut axes = String::new();
        for tick in place.y.ticks(4.0) {
            let y = place.y(tick);
            axes += &svg::line("grid", [0.0, y], [1.0, y]);
            axes += &svg::text("tick y", [0.0, y + 3.5], -8.0, &self.unit.tick(tick));
        }
        axes + &step_axis(place.x, self.height, if self.height > WIDE { 7.0 } else { 4.0 })
    }

    /// Names of the lines in their colours with their last values, and a maximum beyond the axis.
    fn legend(&self, place: &Place) -> String {
        let value = |line: &Line| {
            // Of a noisy curve the running mean is shown, not the last value.
            let points = match line.stroke {
                Stroke::Noisy => &smoothed(&line.points),
                _ => &line.points,
            };
            let last = last_of(points).map(|[_, value]| self.unit.value(value));
            let last = last.map(|last| format!(" <b>{last}</b>")).unwrap_or_default();
            coloured(line.hue, line.name) + &last
        };
        let legend = self.lines.iter().map(value).collect::<Vec<_>>().join(" ");
        let values = self.lines.iter().flat_map(|line| &line.points).map(|point| point[1]);
        let most = values.filter(|value| value.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        if most <= place.y.high {
            return legend;
        }
        format!("{legend} maximum {}, beyond the axis", self.unit.value(most))
    }

    /// Text description for screen readers.
    fn description(&self) -> String {
        let line = |line: &Line| {
            let first = line.points.iter().find(|point| point[1].is_finite());
            let (Some(first), Some(last)) = (first, last_of(&line.points)) else {
                return format!("{}: no step logged.", line.name);
            };
            let value = |point: &[f64; 2]| self.unit.value(point[1]);
            let (from, to) = (value(first), value(&last));
            format!("{}: {from} at step {}, {to} at step {}.", line.name, first[0], last[0])
        };
        let levels = self
            .levels
            .iter()
            .map(|level| format!("{}: {}.", level.name, self.unit.value(level.value)));
        self.lines.iter().map(line).chain(levels).collect::<Vec<_>>().join(" ")
    }
}

/// Step axis under a drawing of `height` pixels, with about `about` ticks.
pub(super) fn step_axis(x: Scale, height: f64, about: f64) -> String {
    let mut axis = svg::line("axis", [0.0, height], [1.0, height]);
    let ticks: Vec<f64> = x.ticks(about).into_iter().filter(|tick| tick.fract() == 0.0).collect();
    for (at, tick) in ticks.iter().enumerate() {
        let share = x.place(*tick);
        let mut label = Unit::Count.tick(*tick).replace(' ', "");
        if at == 0 {
            label = format!("step {label}");
        }
        let class = match share {
            share if share < 0.02 => "tick first",
            share if share > 0.97 => "tick last",
            _ => "tick",
        };
        axis += &svg::line("axis", [share, height], [share, height + 4.0]);
        axis += &svg::text(class, [share, height + 17.0], 0.0, &label);
    }
    axis
}

fn last_of(points: &[[f64; 2]]) -> Option<[f64; 2]> {
    points.iter().rev().find(|point| point[1].is_finite()).copied()
}

fn mark_line(mark: &Mark, place: &Place) -> String {
    let x = place.x.place(mark.step);
    if mark.name.is_empty() {
        return svg::line("pruned", [x, 0.0], [x, place.height]);
    }
    let (class, shift) = if x > 0.8 { ("mark-name last", -5.0) } else { ("mark-name first", 5.0) };
    let line = svg::line("mark", [x, -8.0], [x, place.height]);
    line + &svg::text(class, [x, -2.0], shift, mark.name)
}

fn drawn(line: &Line, place: &Place) -> String {
    let attributes = |class: &str, named: bool| {
        // readout.js reads the values of lines with this attribute.
        let name = super::html::escape(line.name);
        let name = if named { format!(" data-name=\"{name}\"") } else { String::new() };
        format!("class=\"{class} {}\"{name}", line.hue)
    };
    let points = thinned(&line.points, POINTS);
    match line.stroke {
        Stroke::Solid => svg::curve(&attributes("curve", true), &points, place),
        Stroke::Noisy if line.points.len() < 40 => {
            svg::curve(&attributes("curve", true), &points, place)
        }
        Stroke::Noisy => {
            let mean = thinned(&smoothed(&line.points), POINTS);
            svg::curve(&attributes("curve faint", false), &points, place)
                + &svg::curve(&attributes("curve", true), &mean, place)
        }
        Stroke::Stairs => svg::curve(&attributes("curve", true), &stairs(&points), place),
        Stroke::Dots => {
            let dots =
                points.iter().map(|point| svg::curve(&attributes("dot", false), &[*point], place));
            svg::curve(&attributes("curve", true), &points, place) + &dots.collect::<String>()
        }
    }
}

/// Adds the corners of a step function: each value holds until the next point.
pub(super) fn stairs(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut stairs: Vec<[f64; 2]> = Vec::with_capacity(2 * points.len());
    for point in points {
        if let Some(before) = stairs.last().copied().filter(|before| before[1] != point[1]) {
            stairs.push([point[0], before[1]]);
        }
        stairs.push(*point);
    }
    stairs
}
