//! Normalisation of an image in a sliding window.

use crate::error::expect_shape;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Mean and variance of every pixel's neighbourhood, `window` × `window`, inside the image.
///
/// A box filter is separable, and along one axis it is a product with a banded matrix. As a
/// matrix product its cost does not depend on the window, sums are over the window's pixels only
/// (no running sums that lose digits), and any device does it at full speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WindowNorm {
    window: i64,
}

impl WindowNorm {
    /// The paper's window, in pixels.
    pub const PAPER: i64 = 47;

    /// The largest window accepted, in pixels.
    pub const LARGEST: i64 = 4095;

    /// The paper's window of 47 × 47 pixels.
    pub fn paper() -> Self {
        Self { window: Self::PAPER }
    }

    /// A window of odd side, in pixels.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an even, non-positive or absurdly large window.
    pub fn new(window: i64) -> Result<Self> {
        if window % 2 == 1 && (1..=Self::LARGEST).contains(&window) {
            return Ok(Self { window });
        }
        let expected = format!("odd, within 1..={}", Self::LARGEST);
        Err(Error::invalid("PMIM window", expected, window))
    }

    /// Side of the window in pixels.
    pub fn window(self) -> i64 {
        self.window
    }

    /// `t = (x − μ)/√(v + 1e-6)`, with `v = max(0, (E[x²] − μ²)·N/(N−1))`, N the in-image pixels.
    ///
    /// A window of a single pixel has no variance: v = 0 there.
    ///
    /// # Shapes
    /// `images` and result: `[B, C, H, W]`, f32.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the images have four axes.
    pub fn normalise(self, images: &Tensor) -> Result<Tensor> {
        let Statistics { centred, mean, deviation, .. } = self.statistics(images)?;
        Ok(centred.f_sub(&mean)?.f_div(&deviation)?)
    }

    /// `t · √(v + 1e-6) + μ`, with μ and v those of `images`: what turns their normalised pixels
    /// into them again, and a prediction of such pixels into a picture.
    ///
    /// # Shapes
    /// `images`, `normalised` and result: `[B, C, H, W]`, f32.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the images have four axes, [`Error::Shape`] unless both are
    /// shaped alike.
    pub fn restore(self, images: &Tensor, normalised: &Tensor) -> Result<Tensor> {
        let Statistics { offset, mean, deviation, .. } = self.statistics(images)?;
        expect_shape("restoring pixels", "normalised pixels", normalised, &images.size())?;
        Ok(normalised.f_mul(&deviation)?.f_add(&mean)?.f_add(&offset)?)
    }

    fn statistics(self, images: &Tensor) -> Result<Statistics> {
        let [_, _, height, width] = image_shape(images)?;
        let images = images.f_to_kind(Kind::Float)?;
        // The result does not depend on an offset, but its digits do: E[x²] − μ² cancels.
        let offset = images.f_mean_dim([2i64, 3].as_slice(), true, None)?;
        let centred = images.f_sub(&offset)?;
        let rows = self.band(height, images.device())?;
        let columns = self.band(width, images.device())?;
        let count = rows
            .f_sum_dim_intlist([1i64].as_slice(), true, None)?
            .f_mul(&columns.f_sum_dim_intlist([1i64].as_slice(), false, None)?)?;
        let average = |x: &Tensor| -> Result<Tensor> {
            Ok(rows.f_matmul(x)?.f_matmul(&columns)?.f_div(&count)?)
        };
        let mean = average(&centred)?;
        let biased = average(&centred.f_square()?)?.f_sub(&mean.f_square()?)?;
        let unbias = count.f_div(&count.f_sub_scalar(1.0)?.f_clamp_min(1.0)?)?;
        let deviation = biased.f_mul(&unbias)?.f_clamp_min(0.0)?.f_add_scalar(1e-6)?.f_sqrt()?;
        Ok(Statistics { offset, centred, mean, deviation })
    }

    /// 1 where two positions of an axis are within half a window; symmetric.
    fn band(self, length: i64, device: Device) -> Result<Tensor> {
        let half = self.window / 2;
        let ones = Tensor::f_ones([length, length], (Kind::Float, device))?;
        Ok(ones.f_triu(-half)?.f_tril(half)?)
    }
}

/// What images are in the windows around their pixels.
struct Statistics {
    /// Mean of each channel, `[B, C, 1, 1]`.
    offset: Tensor,
    /// The images without it.
    centred: Tensor,
    /// μ of what is left.
    mean: Tensor,
    /// √(v + 1e-6).
    deviation: Tensor,
}

/// Batch, channels, height, width.
pub(super) fn image_shape(images: &Tensor) -> Result<[i64; 4]> {
    let size = images.size();
    size.as_slice().try_into().map_err(|_| {
        Error::invalid("axes of the images", "4: batch, channels, height, width", size.len())
    })
}
