//! Normalisation of images in a sliding window (paper section 3.4).

use crate::error::expect_shape;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Normalisation of every pixel by mean and variance of its neighbourhood: the pixels of the image
/// within a window of `window` × `window` around it.
///
/// A box filter is separable, and along one axis it is the product with a banded matrix. As two
/// matrix products its cost does not depend on the window, and no running sums lose precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WindowNorm {
    window: i64,
}

impl WindowNorm {
    /// Side of the paper's window in pixels.
    pub const PAPER: i64 = 47;

    /// Largest side accepted, in pixels.
    pub const LARGEST: i64 = 4095;

    /// The paper's window of 47 × 47 pixels.
    pub fn paper() -> Self {
        Self { window: Self::PAPER }
    }

    /// Creates a window of odd side, in pixels.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the side is odd and within 1..=[`LARGEST`](Self::LARGEST).
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

    /// Returns t = (x − μ)/√(v + 1e-6) for every pixel x, with the mean μ and the unbiased variance
    /// `v = max(0, (E[x²] − μ²)·N/(N−1))` over the N pixels of its window inside the image. For N =
    /// 1, v = 0.
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

    /// Returns t·√(v + 1e-6) + μ for normalised pixels t, with μ and v of `images`: the inverse of
    /// [`normalise`](Self::normalise).
    ///
    /// # Shapes
    /// `images`, `normalised` and result: `[B, C, H, W]`, f32.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the images have four axes, [`Error::Shape`] unless both have the
    /// same shape.
    pub fn restore(self, images: &Tensor, normalised: &Tensor) -> Result<Tensor> {
        let Statistics { offset, mean, deviation, .. } = self.statistics(images)?;
        expect_shape("window denormalisation", "normalised pixels", normalised, &images.size())?;
        Ok(normalised.f_mul(&deviation)?.f_add(&mean)?.f_add(&offset)?)
    }

    fn statistics(self, images: &Tensor) -> Result<Statistics> {
        let [_, _, height, width] = image_shape(images)?;
        let images = images.f_to_kind(Kind::Float)?;
        // Mean subtraction does not change v, and avoids cancellation in E[x²] − μ².
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

    /// Returns the banded matrix `[length, length]`: 1 where two positions are within half a
    /// window.
    fn band(self, length: i64, device: Device) -> Result<Tensor> {
        let half = self.window / 2;
        let ones = Tensor::f_ones([length, length], (Kind::Float, device))?;
        Ok(ones.f_triu(-half)?.f_tril(half)?)
    }
}

/// Statistics of images in the windows around their pixels.
struct Statistics {
    /// Mean of each channel over the whole image, `[B, C, 1, 1]`.
    offset: Tensor,
    /// Images minus `offset`.
    centred: Tensor,
    /// Window mean μ of `centred`.
    mean: Tensor,
    /// √(v + 1e-6).
    deviation: Tensor,
}

/// Returns batch, channels, height and width.
pub(super) fn image_shape(images: &Tensor) -> Result<[i64; 4]> {
    let size = images.size();
    size.as_slice().try_into().map_err(|_| {
        Error::invalid("number of image axes", "4: batch, channels, height, width", size.len())
    })
}
