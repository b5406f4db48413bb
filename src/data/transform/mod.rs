//! Transforms of decoded images to squares of one size, as torchvision and timm have them.

mod affine;
mod crop;
mod enhance;
mod erasing;
mod jitter;
mod rand_augment;
mod resize;
mod tone;

pub use crop::{RandomCrop, Rectangle};
pub use erasing::{Erased, RandomErasing};
pub use jitter::ColourJitter;
pub use rand_augment::{ImageOperation, RandAugment};
pub use resize::{flip_horizontal, Resizer};

use super::{Image, RandomStream};
use crate::range::{Range, SHARE};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Width and height of the result of a transform.
const SIZE: Range<usize> = Range::closed(1, 1 << 14);
/// Share of the shorter side that the evaluation keeps.
pub(crate) const CROP_SHARE: Range<f64> = Range::closed(0.01, 1.0);
/// Largest number of pixels of a resized image before its central crop.
const MAX_RESIZED_PIXELS: usize = 1 << 28;

/// Transform of an image to a square of fixed size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// Random augmentation.
    Train(TrainTransform),
    /// Deterministic resize and central crop.
    Eval(EvalTransform),
}

/// Training augmentation, in timm's order: random resized crop, horizontal flip, RandAugment,
/// colour jitter; after normalisation, random erasing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainTransform {
    /// Width and height of the result in pixels.
    pub size: usize,
    /// Random resized crop.
    pub crop: RandomCrop,
    /// Probability of a horizontal flip.
    pub flip: f64,
    /// RandAugment; `None` disables it.
    pub rand_augment: Option<RandAugment>,
    /// Colour jitter; `None` disables it. With RandAugment, timm disables it by default.
    pub jitter: Option<ColourJitter>,
    /// Random erasing; `None` disables it.
    pub erasing: Option<RandomErasing>,
}

/// Evaluation transform: resize of the shorter side to ⌊size / share⌋, then the central square of
/// `size`, both bicubic as in torchvision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvalTransform {
    /// Width and height of the result in pixels.
    pub size: usize,
    /// Share of the shorter side that the crop keeps, in [0.01, 1]; timm's `crop_pct`.
    pub share: f64,
}

/// Result of a transform.
#[derive(Debug, Clone, PartialEq)]
pub struct Transformed {
    /// Image of `size` × `size` pixels.
    pub image: Image,
    /// Rectangle and noise of random erasing, to be written after normalisation.
    pub erased: Option<Erased>,
}

impl TrainTransform {
    /// DeiT's augmentation (Touvron et al., 2021, table 9).
    pub fn deit(size: usize) -> Self {
        Self {
            rand_augment: Some(RandAugment::default()),
            erasing: Some(RandomErasing::default()),
            ..Self::plain(size)
        }
    }

    /// Random resized crop and horizontal flip only.
    pub fn plain(size: usize) -> Self {
        let crop = RandomCrop::default();
        Self { size, crop, flip: 0.5, rand_augment: None, jitter: None, erasing: None }
    }

    fn apply(
        &self,
        image: &Image,
        crop: Rectangle,
        fill: &[u8],
        stream: &mut RandomStream,
        resizer: &mut Resizer,
    ) -> Result<Transformed> {
        let mut image = resizer.crop(image, crop, self.size, self.size)?;
        if stream.chance(self.flip) {
            flip_horizontal(&mut image);
        }
        for operation in self.rand_augment.iter().flat_map(|augment| augment.draw(stream)) {
            operation.apply(&mut image, fill)?;
        }
        if let Some(jitter) = self.jitter {
            for operation in jitter.draw(stream) {
                operation.apply(&mut image, fill)?;
            }
        }
        let erased = self
            .erasing
            .and_then(|erasing| erasing.draw(self.size, self.size, image.channels(), stream));
        Ok(Transformed { image, erased })
    }
}

impl EvalTransform {
    /// Usual share of the shorter side that the crop keeps.
    pub const SHARE: f64 = 0.875;

    /// Returns the usual transform, with share 0.875.
    pub fn new(size: usize) -> Self {
        Self { size, share: Self::SHARE }
    }

    fn apply(&self, image: &Image, resizer: &mut Resizer) -> Result<Transformed> {
        let (width, height) =
            crop::resized_sides(image.width(), image.height(), self.size, self.share);
        // A narrow image, such as 1 × 16384, would be resized to an enormous one.
        if width.checked_mul(height).is_none_or(|pixels| pixels > MAX_RESIZED_PIXELS) {
            let (name, actual) = ("size of the resized image", format!("{width} × {height}"));
            return Err(Error::invalid(
                name,
                format!("at most {MAX_RESIZED_PIXELS} pixels"),
                actual,
            ));
        }
        let resized = resizer.whole(image, width, height)?;
        let image = resize::cut(&resized, crop::central(width, height, self.size))?;
        Ok(Transformed { image, erased: None })
    }
}

impl Transform {
    /// Returns the transformed image. `fill`, one value a channel, is the colour of pixels that
    /// rotation, shear and translation take from outside the image.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the length of `fill` is not the number of channels, or an option is
    /// out of range.
    pub fn apply(
        &self,
        image: &Image,
        fill: &[u8],
        stream: &mut RandomStream,
        resizer: &mut Resizer,
    ) -> Result<Transformed> {
        self.validate()?;
        let region = self.region(image.width(), image.height(), stream);
        self.apply_to(region, image, fill, stream, resizer)
    }

    /// Draws the region of an image that the result depends on: the random crop, or the whole image
    /// for evaluation. [`apply_to`](Self::apply_to) continues with the same stream.
    pub(super) fn region(
        &self,
        width: usize,
        height: usize,
        stream: &mut RandomStream,
    ) -> Rectangle {
        match self {
            Self::Train(training) => training.crop.draw(width, height, stream),
            // The evaluation crop follows the resize, whose filter reaches beyond the crop.
            Self::Eval(_) => Rectangle { left: 0, top: 0, width, height },
        }
    }

    /// Transforms the region of an image that [`region`](Self::region) drew. Rows below the region
    /// may be missing.
    pub(super) fn apply_to(
        &self,
        region: Rectangle,
        image: &Image,
        fill: &[u8],
        stream: &mut RandomStream,
        resizer: &mut Resizer,
    ) -> Result<Transformed> {
        match self {
            Self::Train(training) => training.apply(image, region, fill, stream, resizer),
            Self::Eval(evaluation) => evaluation.apply(image, resizer),
        }
    }

    /// Width and height of the result in pixels.
    pub fn size(&self) -> usize {
        match self {
            Self::Train(training) => training.size,
            Self::Eval(evaluation) => evaluation.size,
        }
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first option out of range.
    pub fn validate(&self) -> Result<()> {
        SIZE.check("transform.size", self.size())?;
        match self {
            Self::Eval(evaluation) => CROP_SHARE.check("transform.share", evaluation.share),
            Self::Train(training) => {
                SHARE.check("transform.flip", training.flip)?;
                training.crop.validate()?;
                training.rand_augment.map_or(Ok(()), |augment| augment.validate())?;
                training.jitter.map_or(Ok(()), |jitter| jitter.validate())?;
                training.erasing.map_or(Ok(()), |erasing| erasing.validate())
            }
        }
    }
}
