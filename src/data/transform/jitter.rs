//! Colour jitter, as torchvision's `ColorJitter` without hue.

use super::{ImageOperation, RandomStream};
use crate::range::{check_all, Range};
use crate::Result;
use serde::{Deserialize, Serialize};

const JITTER: Range<f64> = Range::closed(0.0, 1e3);

/// Random brightness, contrast and saturation, in random order. With range x, a factor is uniform
/// in [max(0, 1 − x), 1 + x].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ColourJitter {
    /// Range of the brightness factor.
    pub brightness: f64,
    /// Range of the contrast factor.
    pub contrast: f64,
    /// Range of the saturation factor.
    pub saturation: f64,
}

impl ColourJitter {
    /// Returns the jitter with one range for all three factors; timm's default is 0.4.
    pub fn uniform(range: f64) -> Self {
        Self { brightness: range, contrast: range, saturation: range }
    }

    /// Draws the operations for an image.
    pub fn draw(&self, stream: &mut RandomStream) -> [ImageOperation; 3] {
        let mut factor = |range: f64| stream.between((1.0 - range).max(0.0), 1.0 + range);
        let mut operations = [
            ImageOperation::Brightness(factor(self.brightness)),
            ImageOperation::Contrast(factor(self.contrast)),
            ImageOperation::Colour(factor(self.saturation)),
        ];
        stream.shuffle(&mut operations);
        operations
    }

    pub(super) fn validate(&self) -> Result<()> {
        check_all([
            ("transform.jitter.brightness", self.brightness, JITTER),
            ("transform.jitter.contrast", self.contrast, JITTER),
            ("transform.jitter.saturation", self.saturation, JITTER),
        ])
    }
}
