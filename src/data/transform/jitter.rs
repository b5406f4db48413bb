//! Colour jitter, as torchvision has it without hue.

use super::{ImageOperation, RandomStream};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Random brightness, contrast and saturation, in random order: each factor is uniform in
/// [max(0, 1 − x), 1 + x].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ColourJitter {
    /// Largest change of the brightness.
    pub brightness: f64,
    /// Largest change of the contrast.
    pub contrast: f64,
    /// Largest change of the saturation.
    pub saturation: f64,
}

impl ColourJitter {
    /// The same range for all three; timm's default is 0.4.
    pub fn uniform(range: f64) -> Self {
        Self { brightness: range, contrast: range, saturation: range }
    }

    /// The operations for an image.
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
        for (name, range) in [
            ("jitter of brightness", self.brightness),
            ("jitter of contrast", self.contrast),
            ("jitter of saturation", self.saturation),
        ] {
            if !(range >= 0.0 && range.is_finite()) {
                return Err(Error::invalid(name, "0 or more, finite", range));
            }
        }
        Ok(())
    }
}
