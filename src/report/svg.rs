//! SVG elements.
//!
//! A drawing takes the width of its container: x is a share of the width, y is in pixels, so that
//! text and strokes keep their size. Paths cannot have shares as coordinates; they are in a nested
//! SVG that is stretched.

use super::html::escape;
use super::scale::Scale;
use std::fmt::Write;

/// Width of a stretched SVG in its own units.
const WIDTH: f64 = 1000.0;

/// An `svg` element with title and text description. `attributes` and `content` are markup.
pub(super) fn drawing(
    height: f64,
    attributes: &str,
    [title, description]: [&str; 2],
    content: &str,
) -> String {
    format!(
        "<svg role=\"img\" width=\"100%\" height=\"{height}\"{attributes}><title>{}</title>\
         <desc>{}</desc>{content}</svg>",
        escape(title),
        escape(description)
    )
}

/// Formats a share of the width in per cent.
pub(super) fn across(share: f64) -> String {
    format!("{}%", short(100.0 * share))
}

/// Formats with up to two decimals.
pub(super) fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// A straight line between two points (share, pixels).
pub(super) fn line(class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> String {
    let (x1, x2, y1, y2) = (across(x1), across(x2), short(y1), short(y2));
    format!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>")
}

/// A rectangle: upper left corner and size, both (share, pixels).
pub(super) fn rect(class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2]) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
        across(x),
        short(y),
        across(width.max(0.0)),
        short(height.max(0.0))
    )
}

/// Text at (share, pixels), moved right by `shift` pixels.
pub(super) fn text(class: &str, [x, y]: [f64; 2], shift: f64, words: &str) -> String {
    let shift = if shift == 0.0 { String::new() } else { format!(" dx=\"{}\"", short(shift)) };
    let (x, y) = (across(x), short(y));
    format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{shift}>{}</text>", escape(words))
}

/// A nested SVG at (0, y), stretched over the width, for paths of [`curve`] and [`area`].
pub(super) fn stretched(y: f64, height: f64, curves: &str) -> String {
    let (y, height) = (short(y), short(height));
    format!(
        "<svg y=\"{y}\" width=\"100%\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         preserveAspectRatio=\"none\">{curves}</svg>"
    )
}

/// Path of a curve, interrupted at non-finite values. A single point is a dot. `attributes` is
/// markup.
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

/// Path of the area between a curve and the low end of its axis.
pub(super) fn area(class: &str, points: &[[f64; 2]], place: &Place) -> String {
    let mut path = String::new();
    for part in finite_parts(points) {
        push_part(&mut path, part, place);
        let (first, last) = (place.x(part[0][0]), place.x(part[part.len() - 1][0]));
        let _ = write!(path, "L{} {}H{}Z", short(last), short(place.height), short(first));
    }
    format!("<path class=\"{class}\" d=\"{path}\"/>")
}

/// Axes of a stretched SVG.
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

    /// Position of a value in pixels from the top.
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
