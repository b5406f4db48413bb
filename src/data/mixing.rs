//! Mixup (Zhang et al., 2018) and cutmix (Yun et al., 2019), as timm's `Mixup` in mode `batch`.
//!
//! One λ for the whole batch; image i of B is mixed with image B − 1 − i.

use super::transform::Rectangle;
use super::RandomStream;
use crate::batch::Targets;
use crate::range::{check_all, Range, SHARE};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// α of a Beta distribution, where it is not 0.
const ALPHA: Range<f64> = Range::closed(1e-3, 1e3);

/// Options of mixup and cutmix.
///
/// The mixed targets include label smoothing, so set `label_smoothing` of the search to 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mixing {
    /// α of mixup: λ ~ Beta(α, α). 0 disables mixup.
    pub mixup: f64,
    /// α of cutmix: λ ~ Beta(α, α). 0 disables cutmix.
    pub cutmix: f64,
    /// Probability that a batch is mixed.
    pub probability: f64,
    /// Probability of cutmix rather than mixup for a mixed batch, if both are enabled.
    pub switch: f64,
    /// Label smoothing s: a target t becomes (1 − s)·t + s/classes.
    pub label_smoothing: f64,
}

/// Mixing of one batch, as drawn by [`Mixing::draw`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    /// The batch is unchanged.
    None,
    /// Mixup: λ·image + (1 − λ)·partner.
    Mixup(f64),
    /// Cutmix: the rectangle is replaced by that of the partner.
    Cutmix(Rectangle),
}

impl Mixing {
    /// DeiT's options: mixup 0.8, cutmix 1.0, label smoothing 0.1.
    pub fn deit() -> Self {
        Self { mixup: 0.8, cutmix: 1.0, probability: 1.0, switch: 0.5, label_smoothing: 0.1 }
    }

    /// Draws the mixing of a batch of `size` × `size` images.
    pub fn draw(&self, size: usize, stream: &mut RandomStream) -> Mix {
        if !stream.chance(self.probability) {
            return Mix::None;
        }
        let paste = self.cutmix > 0.0 && (self.mixup == 0.0 || stream.chance(self.switch));
        if !paste {
            return Mix::Mixup(stream.beta(self.mixup));
        }
        let side = (size as f64 * (1.0 - stream.beta(self.cutmix)).sqrt()) as usize;
        let mut axis = || {
            let centre = stream.up_to(size - 1);
            (centre.saturating_sub(side / 2), (centre + side / 2).min(size))
        };
        let ((top, bottom), (left, right)) = (axis(), axis());
        Mix::Cutmix(Rectangle { left, top, width: right - left, height: bottom - top })
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first option out of range, or if mixup and cutmix are both 0.
    pub fn validate(&self) -> Result<()> {
        for (name, alpha) in [("mixing.mixup", self.mixup), ("mixing.cutmix", self.cutmix)] {
            if alpha != 0.0 {
                ALPHA.check(name, alpha)?;
            }
        }
        if self.mixup == 0.0 && self.cutmix == 0.0 {
            let expected = "one of them positive";
            return Err(Error::invalid("mixing.mixup and mixing.cutmix", expected, "0 and 0"));
        }
        check_all([
            ("mixing.probability", self.probability, SHARE),
            ("mixing.switch", self.switch, SHARE),
            ("mixing.label_smoothing", self.label_smoothing, SHARE),
        ])
    }
}

impl Mix {
    /// Weight λ of an image's own target: for cutmix, the share of a `size` × `size` image outside
    /// the rectangle.
    pub fn lambda(self, size: usize) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Mixup(lambda) => lambda,
            Self::Cutmix(cut) => 1.0 - (cut.width * cut.height) as f64 / (size * size) as f64,
        }
    }

    /// Mixes every image i with its partner B − 1 − i. Cutmix changes `images` in place.
    ///
    /// # Shapes
    /// `images` and result: `[B, C, S, S]`.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device is out of memory.
    pub fn images(self, images: Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(images),
            Self::Mixup(lambda) => {
                let partners = images.f_flip([0])?.f_mul_scalar(1.0 - lambda)?;
                Ok(images.f_mul_scalar(lambda)?.f_add(&partners)?)
            }
            Self::Cutmix(Rectangle { left, top, width, height }) => {
                let cut = |from: &Tensor| {
                    from.f_narrow(2, top as i64, height as i64)?.f_narrow(
                        3,
                        left as i64,
                        width as i64,
                    )
                };
                // f_flip copies, so no partner is overwritten before it is read.
                let partners = cut(&images)?.f_flip([0])?;
                cut(&images)?.f_copy_(&partners)?;
                Ok(images)
            }
        }
    }

    /// Returns the targets of the mixed images, with label smoothing.
    ///
    /// # Shapes
    /// `classes`: `[B]`, i64; result: `[B, count]`, f32, for images of `size` × `size`.
    ///
    /// # Errors
    /// [`Error::Torch`] if a class is out of range.
    pub fn targets(
        self,
        classes: &Tensor,
        count: usize,
        size: usize,
        label_smoothing: f64,
    ) -> Result<Targets> {
        let kept = self.lambda(size);
        let one_hot = classes.f_one_hot(count as i64)?.f_to_kind(Kind::Float)?;
        let partners = one_hot.f_flip([0])?.f_mul_scalar(1.0 - kept)?;
        let mixed = one_hot.f_mul_scalar(kept)?.f_add(&partners)?;
        let smoothed = mixed
            .f_mul_scalar(1.0 - label_smoothing)?
            .f_add_scalar(label_smoothing / count as f64)?;
        Ok(Targets::Probabilities(smoothed))
    }
}
