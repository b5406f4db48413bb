//! The reconstruction loss.

use super::window::{image_shape, WindowNorm};
use crate::error::expect_shape;
use crate::{Error, Result};
use std::fmt::Debug;
use tch::Tensor;

/// What hidden patches should look like, and how far a prediction is from it.
pub trait PmimRegularizer: Debug {
    /// What is to be predicted from `images`, `[B, C, H, W]`; a constant to autograd.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the images have four axes.
    fn targets(&self, images: &Tensor) -> Result<Tensor>;

    /// Distance of a prediction on the hidden patches.
    ///
    /// # Shapes
    /// `targets`, `prediction`: `[B, C, H, W]`; `token_mask`: `[B, N]`, 1 where hidden, over
    /// `rows` rows of patches. Result: scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Invalid`] if images and tokens do not match.
    fn loss(
        &self,
        targets: &Tensor,
        prediction: &Tensor,
        token_mask: &Tensor,
        rows: i64,
    ) -> Result<Tensor>;
}

/// The paper's: L1 to pixels normalised in a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowedPixels {
    norm: WindowNorm,
}

impl WindowedPixels {
    /// Targets normalised in windows of `window` pixels; the paper uses 47.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an even, non-positive or absurdly large window.
    pub fn new(window: i64) -> Result<Self> {
        Ok(Self { norm: WindowNorm::new(window)? })
    }
}

impl PmimRegularizer for WindowedPixels {
    fn targets(&self, images: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.norm.normalise(images))
    }

    /// Σ |t − pred| · M / (Σ M + 1e-5) / C, M over pixels, counted once for all channels.
    fn loss(
        &self,
        targets: &Tensor,
        prediction: &Tensor,
        token_mask: &Tensor,
        rows: i64,
    ) -> Result<Tensor> {
        expect_shape("reconstruction loss", "prediction", prediction, &targets.size())?;
        let [batch, channels, height, width] = image_shape(targets)?;
        let columns = columns_of(token_mask, rows, [batch, height, width])?;
        let pixels = token_mask
            .f_view([batch, 1, rows, columns])?
            .f_repeat_interleave_self_int(height / rows, 2, None)?
            .f_repeat_interleave_self_int(width / columns, 3, None)?;
        let distance = targets.f_sub(prediction)?.f_abs()?.f_mul(&pixels)?.f_sum(None)?;
        let hidden = pixels.f_sum(None)?.f_add_scalar(1e-5)?;
        Ok(distance.f_div(&hidden)?.f_div_scalar(channels as f64)?)
    }
}

/// Columns of the token grid, if it lies evenly over the images.
fn columns_of(token_mask: &Tensor, rows: i64, [batch, height, width]: [i64; 3]) -> Result<i64> {
    let size = token_mask.size();
    let tokens = size.last().copied().unwrap_or(0);
    let columns = tokens / rows.max(1);
    let even = rows > 0 && columns > 0 && height % rows == 0 && width % columns == 0;
    if even && size == [batch, tokens] && columns * rows == tokens {
        return Ok(columns);
    }
    let expected = format!("[{batch}, rows × columns dividing {height} × {width}]");
    Err(Error::invalid("shape of the token mask", expected, format!("{size:?} in {rows} rows")))
}
