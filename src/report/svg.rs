//! Pieces of drawings.
//!
//! Drawings are as wide as the page lets them: places along x are shares of the width, places
//! along y are pixels, so that letters and strokes keep their size. Curves, which have no shares,
//! lie in a stretched drawing of their own.

use super::html::escape;
use super::scale::Scale;
use std::fmt::Write;

/// Width of a stretched drawing in its own units.
const WIDTH: f64 = 1000.0;

/// A drawing with its name and what a person who does not see it should know. `attributes` and
/// `content` are markup.
pub(super) fn drawing(
    height: f64,
    attributes: &str,
    [title, description]: [&str; 2],
    content: &str,
) -> String {
    format!(
        "<svg role=\"img\" width=\"100%\" height=\"{height}\"{attributes}><title>{}</title><desc>{}</desc>{content}</svg>",
        escape(title),
        escape(description)
    )
}

/// A share of the width.
pub(super) fn across(share: f64) -> String {
    format!("{}%", short(100.0 * share))
}

/// Up to two decimals.
pub(super) fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// A straight line from (x, y) to (x, y), in shares and pixels.
pub(super) fn line(class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> String {
    let (x1, x2, y1, y2) = (across(x1), across(x2), short(y1), short(y2));
    format!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>")
}

/// A box: its left upper corner, width and height, in shares and pixels.
pub(super) fn rect(class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2]) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
        across(x),
        short(y),
        across(width.max(0.0)),
        short(height.max(0.0))
    )
}

/// A word at (x, y), in shares and pixels, moved by so many pixels.
pub(super) fn text(class: &str, [x, y]: [f64; 2], shift: f64, words: &str) -> String {
    let shift = if shift == 0.0 { String::new() } else { format!(" dx=\"{}\"", short(shift)) };
    let (x, y) = (across(x), short(y));
    format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{shift}>{}</text>", escape(words))
}

/// Curves at (0, y), stretched over the width. `curves` are made by [`curve`] and [`area`].
pub(super) fn stretched(y: f64, height: f64, curves: &str) -> String {
    let (y, height) = (short(y), short(height));
    format!(
        "<svg y=\"{y}\" width=\"100%\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=\"none\">{curves}</svg>"
    )
}

/// A curve of a stretched drawing; it is broken where a value is not finite. One point alone is a
/// dot. `attributes` is markup.
pub(super) fn curve(attributes: &str, points: &[[f64; 2]], place: &Place) -> String {
    let mut path = String::new();
    for part in finite_parts(points) {
        push_part(&mut path, part, place);
        if let [_] = part {
            path.push_str("h0");
        }
    }
    format!("<path {attributes} d=\"{path}\"/>")
}

/// The area between a curve and the low end of its axis.
pub(super) fn area(class: &str, points: &[[f64; 2]], place: &Place) -> String {
    let mut path = String::new();
    for part in finite_parts(points) {
        push_part(&mut path, part, place);
        let (first, last) = (place.x(part[0][0]), place.x(part[part.len() - 1][0]));
        let _ = write!(path, "L{} {}H{}Z", short(last), short(place.height), short(first));
    }
    format!("<path class=\"{class}\" d=\"{path}\"/>")
}

/// Where values lie in a stretched drawing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) height: f64,
}

impl Place {
    fn x(&self, value: f64) -> f64 {
        WIDTH * self.x.place(value)
    }

    /// Pixels from the top.
    pub(super) fn y(&self, value: f64) -> f64 {
        self.height * (1.0 - self.y.place(value))
    }
}

fn finite_parts(points: &[[f64; 2]]) -> impl Iterator<Item = &[[f64; 2]]> {
    points.split(|point| !point[1].is_finite()).filter(|part| !part.is_empty())
}

fn push_part(path: &mut String, part: &[[f64; 2]], place: &Place) {
    for (at, [x, y]) in part.iter().enumerate() {
        let letter = if at == 0 { 'M' } else { 'L' };
        // Writing to a String cannot fail.
        let _ = write!(path, "{letter}{} {}", short(place.x(*x)), short(place.y(*y)));
    }
}
