//! Target and loss of the reconstruction (paper section 3.4).

use super::random_token_mask;
use super::window::{image_shape, WindowNorm};
use crate::components::ComponentId;
use crate::error::expect_shape;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::fmt::Debug;
use tch::{Device, Tensor};

/// Masked image modeling: which tokens are masked, the reconstruction target, and the loss (paper
/// section 3.4).
pub trait PmimRegularizer: Any + Debug + Send + Sync {
    /// Name and parameters; a checkpoint stores them, and a resume with another id is refused. The names of
    /// this crate's own are refused when the search is built.
    fn id(&self) -> ComponentId;

    /// Returns the patch tokens to mask, `[batch, tokens]`, f32, 1 where masked: by default a
    /// random share `ratio` of every image's ([`random_token_mask`]). libtorch's generator is
    /// seeded for the step when this is called.
    ///
    /// # Errors
    /// Those of [`random_token_mask`].
    fn token_mask(&self, batch: i64, tokens: i64, ratio: f64, device: Device) -> Result<Tensor> {
        random_token_mask(batch, tokens, ratio, device)
    }

    /// Returns the reconstruction target, a constant to autograd.
    ///
    /// # Shapes
    /// `images` and result: `[B, C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the images have four axes.
    fn targets(&self, images: &Tensor) -> Result<Tensor>;

    /// Returns the loss between target and prediction on the masked patches.
    ///
    /// # Shapes
    /// `targets`, `prediction`: `[B, C, H, W]`; `token_mask`: `[B, N]`, 1 where masked, over
    /// `rows` rows of patches. Result: scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] if target and prediction differ in shape, [`Error::Invalid`] if the token
    /// mask does not divide the images.
    fn loss(
        &self,
        targets: &Tensor,
        prediction: &Tensor,
        token_mask: &Tensor,
        rows: i64,
    ) -> Result<Tensor>;

    /// Returns a prediction as pixels in the normalisation of `images`, for display: the inverse of
    /// [`targets`](Self::targets) as far as there is one. The default returns the prediction
    /// unchanged.
    ///
    /// # Shapes
    /// `images`, `prediction` and result: `[B, C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if images and prediction do not match.
    fn to_pixels(&self, images: &Tensor, prediction: &Tensor) -> Result<Tensor> {
        expect_shape("reconstruction", "prediction", prediction, &images.size())?;
        Ok(prediction.shallow_clone())
    }
}

/// The paper's regulariser: L1 loss to pixels that are normalised in a sliding window (section
/// 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowedPixels {
    #[serde(rename = "window")]
    norm: WindowNorm,
}

impl WindowedPixels {
    pub(crate) const NAME: &'static str = "windowed_pixels";

    /// Normalises targets in windows of `window` × `window` pixels; 47 in the paper.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the window is odd and within 1..=[`WindowNorm::LARGEST`].
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
        crate::autograd::no_grad(|| self.norm.normalise(images))
    }

    /// Σ |t − pred|·M / (Σ M + 1e-5) / C, with the mask M over pixels, `[B, 1, H, W]`, and C the
    /// number of channels.
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

    /// Undoes the normalisation with the mean and standard deviation of the input image's windows,
    /// as MAE does for display: brightness and contrast are not predicted.
    fn to_pixels(&self, images: &Tensor, prediction: &Tensor) -> Result<Tensor> {
        crate::autograd::no_grad(|| self.norm.restore(images, prediction))
    }
}

/// Returns a token mask as a mask of pixels: every pixel of a masked patch is 1.
///
/// # Shapes
/// `token_mask`: `[B, N]`, over `rows` rows of patches; `[batch, height, width]`: of the images.
/// Result: `[B, 1, H, W]`.
///
/// # Errors
/// [`Error::Invalid`] if rows and columns of tokens do not divide height and width.
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

/// Returns the columns of the token grid, checked to divide the images.
fn columns_of(token_mask: &Tensor, rows: i64, [batch, height, width]: [i64; 3]) -> Result<i64> {
    let size = token_mask.size();
    let tokens = size.last().copied().unwrap_or(0);
    let columns = tokens / rows.max(1);
    let even = rows > 0 && columns > 0 && height % rows == 0 && width % columns == 0;
    if even && size == [batch, tokens] && columns * rows == tokens {
        return Ok(columns);
    }
    let expected = format!("[{batch}, rows × columns dividing {height} × {width}]");
    Err(Error::invalid("shape of token_mask", expected, format!("{size:?} in {rows} rows")))
}
