//! What happens to an image between decoding and the batch.

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
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Most pixels that an image is resized to before its centre is cut out.
const LARGEST_RESIZED: usize = 1 << 28;

/// How images become squares of one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// At random, see [`TrainTransform`].
    Train(TrainTransform),
    /// Always the same, see [`EvalTransform`].
    Eval(EvalTransform),
}

/// Augmentation of a training image, in timm's order: crop, flip, RandAugment, colour jitter,
/// (normalisation,) erasing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainTransform {
    /// Side of the result in pixels.
    pub size: usize,
    /// What is seen of the image.
    pub crop: RandomCrop,
    /// Probability of mirroring.
    pub flip: f64,
    /// RandAugment, or none.
    pub rand_augment: Option<RandAugment>,
    /// Colour jitter, or none. With RandAugment, timm has none unless it is forced.
    pub jitter: Option<ColourJitter>,
    /// Random erasing, or none.
    pub erasing: Option<RandomErasing>,
}

/// The usual evaluation crop: shorter side to ⌊size / share⌋, then the central square.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvalTransform {
    /// Side of the result in pixels.
    pub size: usize,
    /// Share of the shorter side that is seen.
    pub share: f64,
}

/// A transformed image.
#[derive(Debug, Clone, PartialEq)]
pub struct Transformed {
    /// `size` × `size` pixels.
    pub image: Image,
    /// What is to be erased once the image is normalised.
    pub erased: Option<Erased>,
}

impl TrainTransform {
    /// The recipe of DeiT (Touvron et al., 2021, Table 9).
    pub fn deit(size: usize) -> Self {
        Self {
            rand_augment: Some(RandAugment::default()),
            erasing: Some(RandomErasing::default()),
            ..Self::plain(size)
        }
    }

    /// Only the random crop and the flip.
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
    /// A crop of 0.875 of the shorter side.
    pub fn new(size: usize) -> Self {
        Self { size, share: 0.875 }
    }

    fn apply(&self, image: &Image, resizer: &mut Resizer) -> Result<Transformed> {
        let (width, height) =
            crop::resized_sides(image.width(), image.height(), self.size, self.share);
        // A long and narrow image would be resized to a longer one, to see its middle.
        if width.checked_mul(height).is_none_or(|pixels| pixels > LARGEST_RESIZED) {
            let (name, actual) = ("sides of the resized image", format!("{width} × {height}"));
            return Err(Error::invalid(name, format!("at most {LARGEST_RESIZED} pixels"), actual));
        }
        let resized = resizer.whole(image, width, height)?;
        let image = resize::cut(&resized, crop::central(width, height, self.size))?;
        Ok(Transformed { image, erased: None })
    }
}

impl Transform {
    /// Transforms an image. `fill` colours what an operation brings in from outside of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `fill` has not one value for each channel, or an option cannot be.
    pub fn apply(
        &self,
        image: &Image,
        fill: &[u8],
        stream: &mut RandomStream,
        resizer: &mut Resizer,
    ) -> Result<Transformed> {
        self.validate()?;
        let seen = self.seen(image.width(), image.height(), stream);
        self.apply_to(seen, image, fill, stream, resizer)
    }

    /// The part of an image that the result depends on: the first that is drawn from the stream.
    pub(super) fn seen(&self, width: usize, height: usize, stream: &mut RandomStream) -> Rectangle {
        match self {
            Self::Train(training) => training.crop.draw(width, height, stream),
            // The crop takes resized pixels.
            Self::Eval(_) => Rectangle { left: 0, top: 0, width, height },
        }
    }

    /// Transforms the part of an image that [`seen`](Self::seen) drew; below it, rows may be
    /// missing.
    pub(super) fn apply_to(
        &self,
        seen: Rectangle,
        image: &Image,
        fill: &[u8],
        stream: &mut RandomStream,
        resizer: &mut Resizer,
    ) -> Result<Transformed> {
        match self {
            Self::Train(training) => training.apply(image, seen, fill, stream, resizer),
            Self::Eval(evaluation) => evaluation.apply(image, resizer),
        }
    }

    /// Side of the result in pixels.
    pub fn size(&self) -> usize {
        match self {
            Self::Train(training) => training.size,
            Self::Eval(evaluation) => evaluation.size,
        }
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the first that cannot be.
    pub fn validate(&self) -> Result<()> {
        if !(1..=1 << 14).contains(&self.size()) {
            return Err(Error::invalid("image size", "1 to 16384", self.size()));
        }
        match self {
            Self::Eval(EvalTransform { share, .. }) if 0.0 < *share && *share <= 1.0 => Ok(()),
            Self::Eval(EvalTransform { share, .. }) => {
                Err(Error::invalid("evaluation crop", "more than 0, at most 1", share))
            }
            Self::Train(training) => {
                expect_probability("probability of a flip", training.flip)?;
                training.crop.validate()?;
                training.rand_augment.map_or(Ok(()), |augment| augment.validate())?;
                training.jitter.map_or(Ok(()), |jitter| jitter.validate())?;
                training.erasing.map_or(Ok(()), |erasing| erasing.validate())
            }
        }
    }
}

pub(super) fn expect_probability(name: &'static str, probability: f64) -> Result<()> {
    if (0.0..=1.0).contains(&probability) {
        return Ok(());
    }
    Err(Error::invalid(name, "0 to 1", probability))
}
