//! The reconstruction loss.

use super::random_token_mask;
use super::window::{image_shape, WindowNorm};
use crate::components::ComponentId;
use crate::error::expect_shape;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use tch::{Device, Tensor};

/// What hidden patches should look like, and how far a prediction is from it.
pub trait PmimRegularizer: Debug + Send + Sync {
    /// Name and parameters, by which a checkpoint recognises the component.
    fn id(&self) -> ComponentId;

    /// Returns the patch tokens to mask, `[batch, tokens]`, f32, 1 where masked: by default a random
    /// share `ratio` of every image's ([`random_token_mask`]). libtorch's generator is seeded for
    /// the step when this is called.
    ///
    /// # Errors
    /// Those of [`random_token_mask`].
    fn token_mask(&self, batch: i64, tokens: i64, ratio: f64, device: Device) -> Result<Tensor> {
        random_token_mask(batch, tokens, ratio, device)
    }

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

    /// A prediction as pixels like those of `images`, to be looked at: what undoes
    /// [`targets`](Self::targets), as far as that can be. The default takes the prediction for
    /// pixels as it is.
    ///
    /// # Shapes
    /// `images`, `prediction` and result: `[B, C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if images and prediction do not match.
    fn to_pixels(&self, images: &Tensor, prediction: &Tensor) -> Result<Tensor> {
        expect_shape("painting", "prediction", prediction, &images.size())?;
        Ok(prediction.shallow_clone())
    }
}

/// The paper's: L1 to pixels normalised in a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowedPixels {
    #[serde(rename = "window")]
    norm: WindowNorm,
}

impl WindowedPixels {
    pub(crate) const NAME: &'static str = "windowed_pixels";

    /// Targets normalised in windows of `window` pixels; the paper uses 47.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an even, non-positive or absurdly large window.
    pub fn new(window: i64) -> Result<Self> {
        Ok(Self { norm: WindowNorm::new(window)? })
    }

    /// The paper's window of 47 pixels.
    pub fn paper() -> Self {
        Self { norm: WindowNorm::paper() }
    }

    /// Side of the window in pixels.
    pub fn window(&self) -> i64 {
        self.norm.window()
    }
}

impl PmimRegularizer for WindowedPixels {
    fn id(&self) -> ComponentId {
        ComponentId::new(Self::NAME).with("window", self.window())
    }

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
        let pixels = masked_pixels(token_mask, rows, [batch, height, width])?;
        let distance = targets.f_sub(prediction)?.f_abs()?.f_mul(&pixels)?.f_sum(None)?;
        let hidden = pixels.f_sum(None)?.f_add_scalar(1e-5)?;
        Ok(distance.f_div(&hidden)?.f_div_scalar(channels as f64)?)
    }

    /// With mean and deviation of the true image's windows, as MAE shows its reconstructions: what
    /// is painted is the structure inside a window, its brightness and contrast are given.
    fn to_pixels(&self, images: &Tensor, prediction: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.norm.restore(images, prediction))
    }
}

/// Returns a token mask as a mask of pixels: every pixel of a masked patch is 1.
///
/// # Shapes
/// `token_mask`: `[B, N]`, over `rows` rows of patches; `[batch, height, width]`: of the images.
/// Result: `[B, 1, H, W]`.
///
/// # Errors
/// [`Error::Invalid`] if the tokens do not lie evenly over the images.
pub fn masked_pixels(
    token_mask: &Tensor,
    rows: i64,
    [batch, height, width]: [i64; 3],
) -> Result<Tensor> {
    let columns = columns_of(token_mask, rows, [batch, height, width])?;
    let grid = token_mask.f_view([batch, 1, rows, columns])?;
    let tall = grid.f_repeat_interleave_self_int(height / rows, 2, None)?;
    Ok(tall.f_repeat_interleave_self_int(width / columns, 3, None)?)
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
