//! Crops: random resized crop for training, central crop for evaluation.

use super::RandomStream;
use crate::range::{Range, POSITIVE_SHARE};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Attempts at a random crop before the central one is taken, as in torchvision.
const ATTEMPTS: usize = 10;

/// Aspect ratios, width / height.
const ASPECT: Range<f64> = Range::closed(1e-3, 1e3);

/// Rectangle of whole pixels inside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rectangle {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// Random crop of torchvision's `RandomResizedCrop`: random area, aspect ratio and place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RandomCrop {
    /// Smallest and largest share of the image's area; uniform.
    pub area: (f64, f64),
    /// Smallest and largest aspect ratio, width / height; uniform in its logarithm.
    pub aspect: (f64, f64),
}

impl Default for RandomCrop {
    fn default() -> Self {
        Self { area: (0.08, 1.0), aspect: (3.0 / 4.0, 4.0 / 3.0) }
    }
}

impl RandomCrop {
    /// Draws a crop of an image of this size. If none of ten attempts fits into the image, returns
    /// the largest central crop with an aspect ratio in `aspect`.
    pub fn draw(&self, width: usize, height: usize, stream: &mut RandomStream) -> Rectangle {
        let whole = (width * height) as f64;
        for _ in 0..ATTEMPTS {
            let area = whole * stream.between(self.area.0, self.area.1);
            let aspect = stream.between(self.aspect.0.ln(), self.aspect.1.ln()).exp();
            let crop_width = (area * aspect).sqrt().round_ties_even() as usize;
            let crop_height = (area / aspect).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                let top = stream.up_to(height - crop_height);
                let left = stream.up_to(width - crop_width);
                return Rectangle { left, top, width: crop_width, height: crop_height };
            }
        }
        self.centre(width, height)
    }

    fn centre(&self, width: usize, height: usize) -> Rectangle {
        let aspect = width as f64 / height as f64;
        let round = |length: f64| (length.round_ties_even() as usize).max(1);
        let (crop_width, crop_height) = if aspect < self.aspect.0 {
            (width, round(width as f64 / self.aspect.0).min(height))
        } else if aspect > self.aspect.1 {
            (round(height as f64 * self.aspect.1).min(width), height)
        } else {
            (width, height)
        };
        let (left, top) = ((width - crop_width) / 2, (height - crop_height) / 2);
        Rectangle { left, top, width: crop_width, height: crop_height }
    }

    pub(super) fn validate(&self) -> Result<()> {
        expect_interval("transform.crop.area", self.area, POSITIVE_SHARE)?;
        expect_interval("transform.crop.aspect", self.aspect, ASPECT)
    }
}

/// Refuses an interval that is empty, or has an end out of range.
pub(super) fn expect_interval(
    name: &str,
    (least, most): (f64, f64),
    range: Range<f64>,
) -> Result<()> {
    range.check(format!("{name}.0"), least)?;
    range.check(format!("{name}.1"), most)?;
    match least <= most {
        true => Ok(()),
        false => {
            let (expected, actual) = ("the smaller number first", format!("{least} to {most}"));
            Err(Error::invalid(name, expected, actual))
        }
    }
}

/// Returns width and height of the resized image whose shorter side is ⌊size / share⌋, rounded as
/// in torchvision's `Resize`.
pub(super) fn resized_sides(
    width: usize,
    height: usize,
    size: usize,
    share: f64,
) -> (usize, usize) {
    // 1e-9 keeps an exact quotient that float rounding has moved just below itself.
    let short = (size as f64 / share + 1e-9).floor() as usize;
    if width <= height {
        (short, short * height / width)
    } else {
        (short * width / height, short)
    }
}

/// Returns the central square, rounded as in torchvision's `CenterCrop`.
pub(super) fn central(width: usize, height: usize, size: usize) -> Rectangle {
    let first = |length: usize| ((length - size) as f64 / 2.0).round_ties_even() as usize;
    Rectangle { left: first(width), top: first(height), width: size, height: size }
}
