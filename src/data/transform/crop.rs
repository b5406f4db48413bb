//! Which part of an image is seen: at random in training, the centre in evaluation.

use super::RandomStream;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Attempts at a crop that fits before the centre is taken (as torchvision).
const ATTEMPTS: usize = 10;

/// A rectangle of whole pixels within an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rectangle {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// The "random resized crop" of Inception: a rectangle of random area, shape and place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RandomCrop {
    /// Least and greatest share of the image's area.
    pub area: (f64, f64),
    /// Least and greatest width / height; uniform in its logarithm.
    pub aspect: (f64, f64),
}

impl Default for RandomCrop {
    fn default() -> Self {
        Self { area: (0.08, 1.0), aspect: (3.0 / 4.0, 4.0 / 3.0) }
    }
}

impl RandomCrop {
    /// A crop of an image. Where ten attempts do not fit, the largest at the centre whose shape is
    /// allowed.
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
        let (least, most) = self.area;
        if !(0.0 < least && least <= most && most <= 1.0) {
            return Err(Error::invalid("crop area", "0 < least ≤ most ≤ 1", range(self.area)));
        }
        let (least, most) = self.aspect;
        if !(0.0 < least && least <= most && most.is_finite()) {
            return Err(Error::invalid("crop aspect", "0 < least ≤ most", range(self.aspect)));
        }
        Ok(())
    }
}

fn range((least, most): (f64, f64)) -> String {
    format!("{least} to {most}")
}

/// Sides of an image whose shorter one is ⌊size / share⌋, width first; rounded as torchvision's
/// `Resize` rounds.
pub(super) fn resized_sides(
    width: usize,
    height: usize,
    size: usize,
    share: f64,
) -> (usize, usize) {
    // An exact quotient must not fall below itself by rounding.
    let short = (size as f64 / share + 1e-9).floor() as usize;
    if width <= height {
        (short, short * height / width)
    } else {
        (short * width / height, short)
    }
}

/// The central square, as torchvision's `CenterCrop` rounds it.
pub(super) fn central(width: usize, height: usize, size: usize) -> Rectangle {
    let first = |length: usize| ((length - size) as f64 / 2.0).round_ties_even() as usize;
    Rectangle { left: first(width), top: first(height), width: size, height: size }
}
