//! RandAugment (Cubuk et al., 2020) as timm has it.

use super::affine::Affine;
use super::{enhance, tone, RandomStream};
use crate::data::Image;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Most operations on an image.
const MOST_LAYERS: usize = 100;
/// The strongest magnitude.
const FULL: f64 = 10.0;

/// Random operations of a given magnitude, every one stronger with a higher magnitude; timm's
/// `rand-m9-mstd0.5-inc1` by default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RandAugment {
    /// Mean magnitude, 0 to 10.
    pub magnitude: f64,
    /// Spread of the magnitude around its mean.
    pub magnitude_std: f64,
    /// Operations drawn for an image, with replacement.
    pub layers: usize,
    /// Probability that an operation drawn takes place.
    pub probability: f64,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { magnitude: 9.0, magnitude_std: 0.5, layers: 2, probability: 0.5 }
    }
}

/// An operation with its strength.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ImageOperation {
    /// Stretches every channel to the full range.
    AutoContrast,
    /// Evens out the histogram of every channel.
    Equalize,
    /// Negative.
    Invert,
    /// About the centre, in degrees, counter-clockwise.
    Rotate(f64),
    /// Keeps so many bits of every value.
    Posterize(u32),
    /// Inverts values from this one on.
    Solarize(u16),
    /// Adds so much to values below 128.
    SolarizeAdd(u8),
    /// Saturation: 0 is grey, 1 no change.
    Colour(f64),
    /// 0 is flat, 1 no change.
    Contrast(f64),
    /// 0 is black, 1 no change.
    Brightness(f64),
    /// 0 is smooth, 1 no change.
    Sharpness(f64),
    /// Columns move by this share of their height.
    ShearX(f64),
    /// Rows move by this share of their width.
    ShearY(f64),
    /// To the left, as a share of the width.
    TranslateX(f64),
    /// Upwards, as a share of the height.
    TranslateY(f64),
}

impl RandAugment {
    /// The operations for an image.
    pub fn draw(&self, stream: &mut RandomStream) -> Vec<ImageOperation> {
        // All are chosen before the first is drawn for: so an operation that does not take
        // place does not change the choice of the next.
        let chosen: Vec<usize> = (0..self.layers).map(|_| stream.up_to(14)).collect();
        let mut operations = Vec::with_capacity(self.layers);
        for kind in chosen {
            if stream.chance(self.probability) {
                let magnitude = stream.normal(self.magnitude, self.magnitude_std);
                operations.push(ImageOperation::draw(
                    kind,
                    magnitude.clamp(0.0, FULL) / FULL,
                    stream,
                ));
            }
        }
        operations
    }

    pub(super) fn validate(&self) -> Result<()> {
        if !(0.0..=FULL).contains(&self.magnitude) {
            return Err(Error::invalid("RandAugment magnitude", "0 to 10", self.magnitude));
        }
        if !(self.magnitude_std >= 0.0 && self.magnitude_std.is_finite()) {
            let std = self.magnitude_std;
            return Err(Error::invalid("RandAugment magnitude_std", "0 or more, finite", std));
        }
        if self.layers > MOST_LAYERS {
            let expected = format!("at most {MOST_LAYERS}");
            return Err(Error::invalid("RandAugment layers", expected, self.layers));
        }
        super::expect_probability("RandAugment probability", self.probability)
    }
}

impl ImageOperation {
    /// One of the fifteen, at a level in [0, 1].
    fn draw(kind: usize, level: f64, stream: &mut RandomStream) -> Self {
        // 1 is no change; the least is 0.1.
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

    /// Carries the operation out; pixels from outside of the image get the colour of `fill`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `fill` has not one value for each channel.
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
