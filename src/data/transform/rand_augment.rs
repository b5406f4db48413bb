//! RandAugment (Cubuk et al., 2020), as in timm.

use super::affine::Affine;
use super::{enhance, tone, RandomStream};
use crate::data::Image;
use crate::range::{Range, SHARE};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Largest accepted number of operations on an image.
const MAX_LAYERS: usize = 100;
/// Largest magnitude.
const MAX_MAGNITUDE: f64 = 10.0;

/// Options of RandAugment. The default is timm's `rand-m9-mstd0.5-inc1`: the strength of every
/// operation increases with the magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RandAugment {
    /// Mean magnitude, in [0, 10].
    pub magnitude: f64,
    /// Standard deviation of the magnitude.
    pub magnitude_std: f64,
    /// Number of operations drawn for an image, with replacement.
    pub layers: usize,
    /// Probability that a drawn operation is applied.
    pub probability: f64,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { magnitude: 9.0, magnitude_std: 0.5, layers: 2, probability: 0.5 }
    }
}

/// Image operation and its strength.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ImageOperation {
    /// Stretches the values of each channel to 0..=255.
    AutoContrast,
    /// Equalizes the histogram of each channel.
    Equalize,
    /// 255 − value.
    Invert,
    /// Rotates about the centre, counter-clockwise, in degrees.
    Rotate(f64),
    /// Keeps this number of upper bits of each value.
    Posterize(u32),
    /// Inverts values of at least this threshold.
    Solarize(u16),
    /// Adds this amount to values below 128.
    SolarizeAdd(u8),
    /// Saturation factor: 0 is grey, 1 no change.
    Colour(f64),
    /// Contrast factor: 0 is a uniform grey, 1 no change.
    Contrast(f64),
    /// Brightness factor: 0 is black, 1 no change.
    Brightness(f64),
    /// Sharpness factor: 0 is smoothed, 1 no change.
    Sharpness(f64),
    /// Horizontal shear: the source x of a pixel is x + share·y.
    ShearX(f64),
    /// Vertical shear: the source y of a pixel is y + share·x.
    ShearY(f64),
    /// Shift to the left, as a share of the width.
    TranslateX(f64),
    /// Shift upwards, as a share of the height.
    TranslateY(f64),
}

impl RandAugment {
    /// Draws the operations for an image.
    pub fn draw(&self, stream: &mut RandomStream) -> Vec<ImageOperation> {
        // As in timm, all operations are chosen before their strengths are drawn.
        let chosen: Vec<usize> = (0..self.layers).map(|_| stream.up_to(14)).collect();
        let mut operations = Vec::with_capacity(self.layers);
        for kind in chosen {
            if stream.chance(self.probability) {
                let magnitude = stream.normal(self.magnitude, self.magnitude_std);
                operations.push(ImageOperation::draw(
                    kind,
                    magnitude.clamp(0.0, MAX_MAGNITUDE) / MAX_MAGNITUDE,
                    stream,
                ));
            }
        }
        operations
    }

    pub(super) fn validate(&self) -> Result<()> {
        let name = |field: &str| format!("transform.rand_augment.{field}");
        Range::closed(0.0, MAX_MAGNITUDE).check(name("magnitude"), self.magnitude)?;
        Range::closed(0.0, 1e3).check(name("magnitude_std"), self.magnitude_std)?;
        Range::closed(0, MAX_LAYERS).check(name("layers"), self.layers)?;
        SHARE.check(name("probability"), self.probability)
    }
}

impl ImageOperation {
    /// Draws the strength of operation `kind` of fifteen, at `level` = magnitude / 10 in [0, 1].
    fn draw(kind: usize, level: f64, stream: &mut RandomStream) -> Self {
        // Factor 1 is no change; the smallest factor is 0.1.
        let enhancement =
            |stream: &mut RandomStream| (1.0 + stream.either_sign(level * 0.9)).max(0.1);
        match kind {
            0 => Self::AutoContrast,
            1 => Self::Equalize,
            2 => Self::Invert,
            3 => Self::Rotate(stream.either_sign(level * 30.0)),
            4 => Self::Posterize(4 - (level * 4.0) as u32),
            5 => Self::Solarize(256 - (level * 256.0) as u16),
            6 => Self::SolarizeAdd((level * 110.0) as u8),
            7 => Self::Colour(enhancement(stream)),
            8 => Self::Contrast(enhancement(stream)),
            9 => Self::Brightness(enhancement(stream)),
            10 => Self::Sharpness(enhancement(stream)),
            11 => Self::ShearX(stream.either_sign(level * 0.3)),
            12 => Self::ShearY(stream.either_sign(level * 0.3)),
            13 => Self::TranslateX(stream.either_sign(level * 0.45)),
            _ => Self::TranslateY(stream.either_sign(level * 0.45)),
        }
    }

    /// Applies the operation in place. Pixels from outside the image get the colour `fill`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the length of `fill` is not the number of channels.
    pub fn apply(self, image: &mut Image, fill: &[u8]) -> Result<()> {
        if fill.len() != image.channels() {
            let expected = format!("{} values", image.channels());
            return Err(Error::invalid("fill", expected, fill.len()));
        }
        let (width, height) = (image.width(), image.height());
        let mut map = |matrix: [f64; 6]| Affine(matrix).apply(image, fill);
        match self {
            Self::AutoContrast => tone::auto_contrast(image),
            Self::Equalize => tone::equalize(image),
            Self::Invert => tone::invert(image),
            Self::Rotate(degrees) => Affine::rotation(degrees, width, height).apply(image, fill),
            Self::Posterize(bits) => tone::posterize(image, bits),
            Self::Solarize(threshold) => tone::solarize(image, threshold),
            Self::SolarizeAdd(add) => tone::solarize_add(image, add),
            Self::Colour(factor) => enhance::colour(image, factor),
            Self::Contrast(factor) => enhance::contrast(image, factor),
            Self::Brightness(factor) => enhance::brightness(image, factor),
            Self::Sharpness(factor) => enhance::sharpness(image, factor),
            Self::ShearX(share) => map([1.0, share, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(share) => map([1.0, 0.0, 0.0, share, 1.0, 0.0]),
            Self::TranslateX(share) => map([1.0, 0.0, share * width as f64, 0.0, 1.0, 0.0]),
            Self::TranslateY(share) => map([1.0, 0.0, 0.0, 0.0, 1.0, share * height as f64]),
        }
        Ok(())
    }
}
