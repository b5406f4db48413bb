//! Curves over steps, with axes.

use super::format::Unit;
use super::html::{coloured, figure};
use super::scale::Scale;
use super::series::{smoothed, thinned};
use super::svg::{self, Place};

/// Points of a curve: more are not seen.
const POINTS: usize = 260;

/// Height in pixels above which a chart has all the width of the page, and room for more ticks.
const WIDE: f64 = 150.0;

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    /// From point to point.
    Solid,
    /// Points faint, and a running mean through them.
    Noisy,
    /// A step at each point: the value holds until the next.
    Stairs,
    /// From point to point, with a dot at each.
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

/// A moment: a line from top to bottom.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) step: f64,
    /// Written at the top, where there is something to say.
    pub(super) name: &'static str,
}

/// A level: a line from side to side.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) value: f64,
    pub(super) name: String,
}

/// Curves over the steps of a run.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) unit: Unit,
    pub(super) height: f64,
    pub(super) lines: Vec<Line<'a>>,
    pub(super) levels: Vec<Level>,
    pub(super) moments: Vec<Moment>,
    /// The range of the values; follows from them if `None`.
    pub(super) range: Option<Scale>,
    /// Steps the axis reaches to at least.
    pub(super) steps: f64,
}

impl<'a> Chart<'a> {
    /// A chart of some lines.
    pub(super) fn new(title: &'a str, unit: Unit, height: f64, lines: Vec<Line<'a>>) -> Self {
        let (levels, moments) = (Vec::new(), Vec::new());
        Self { title, unit, height, lines, levels, moments, range: None, steps: 0.0 }
    }

    /// The chart with its caption: the names of the lines in their colours and the last values.
    pub(super) fn html(&self) -> String {
        let place = self.place();
        let mut content = self.axes(&place);
        // Words lie over the curves, and lines under them.
        let mut words = String::new();
        for level in self.levels.iter().filter(|level| level.value.is_finite()) {
            let y = place.y(level.value);
            content += &svg::line("level", [0.0, y], [1.0, y]);
            words += &svg::text("level-name", [1.0, y - 5.0], 0.0, &level.name);
        }
        for moment in &self.moments {
            content += &moment_line(moment, &place);
        }
        let curves: String = self.lines.iter().map(|line| drawn(line, &place)).collect();
        content += &svg::stretched(0.0, self.height, &curves);
        content += &words;
        if self.lines.iter().all(|line| last_of(&line.points).is_none()) {
            content += &svg::text("empty", [0.5, self.height / 2.0], 0.0, "nothing logged yet");
        }
        let domain = [place.x.low, place.x.high, place.y.low, place.y.high];
        let domain = domain.map(|value| value.to_string()).join(" ");
        let attributes = format!(" data-domain=\"{domain}\" data-unit=\"{}\"", self.unit.key());
        let words = self.in_words();
        let drawing = svg::drawing(self.height, &attributes, [self.title, &words], &content);
        let body = format!("<div class=\"plot\">{drawing}</div>");
        figure("chart", self.title, &self.key(&place), &body)
    }

    fn place(&self) -> Place {
        let steps = self.lines.iter().flat_map(|line| &line.points).map(|point| point[0]);
        let last = steps.chain(self.moments.iter().map(|m| m.step)).fold(self.steps, f64::max);
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

    /// The lines' names in their colours, each with its last value; and what is beyond the axis.
    fn key(&self, place: &Place) -> String {
        let value = |line: &Line| {
            // The last of a noisy curve says less than its mean.
            let points = match line.stroke {
                Stroke::Noisy => &smoothed(&line.points),
                _ => &line.points,
            };
            let last = last_of(points).map(|[_, value]| self.unit.value(value));
            let last = last.map(|last| format!(" <b>{last}</b>")).unwrap_or_default();
            coloured(line.hue, line.name) + &last
        };
        let key = self.lines.iter().map(value).collect::<Vec<_>>().join(" ");
        let values = self.lines.iter().flat_map(|line| &line.points).map(|point| point[1]);
        let most = values.filter(|value| value.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        if most <= place.y.high {
            return key;
        }
        format!("{key} up to {}", self.unit.value(most))
    }

    fn in_words(&self) -> String {
        let line = |line: &Line| {
            let first = line.points.iter().find(|point| point[1].is_finite());
            let (Some(first), Some(last)) = (first, last_of(&line.points)) else {
                return format!("{}: nothing logged.", line.name);
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

/// The axis of steps under a drawing of a height, with about so many ticks.
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

fn moment_line(moment: &Moment, place: &Place) -> String {
    let x = place.x.place(moment.step);
    if moment.name.is_empty() {
        return svg::line("cut", [x, 0.0], [x, place.height]);
    }
    let (class, shift) =
        if x > 0.8 { ("moment-name last", -5.0) } else { ("moment-name first", 5.0) };
    let line = svg::line("moment", [x, -8.0], [x, place.height]);
    line + &svg::text(class, [x, -2.0], shift, moment.name)
}

fn drawn(line: &Line, place: &Place) -> String {
    let attributes = |class: &str, named: bool| {
        // The script of the page reads values off the lines that have a name.
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

/// Every value holds until the next.
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
