//! Images, token mask and reconstruction, to be displayed.

use super::regularizer::masked_pixels;
use super::window::image_shape;
use crate::error::expect_shape;
use crate::Result;
use tch::Tensor;

/// Images, their mask and their reconstruction: `[B, C, H, W]`, f32, in the normalisation of the
/// network's input.
#[derive(Debug)]
pub struct Reconstruction {
    /// Input images.
    pub images: Tensor,
    /// 1 in the pixels of masked patches, 0 elsewhere.
    pub masked: Tensor,
    /// Input images with the masked patches replaced by their reconstruction.
    pub reconstructed: Tensor,
}

impl Reconstruction {
    /// Replaces the masked patches of `images` by `predicted` pixels.
    ///
    /// # Shapes
    /// `images`, `predicted`: `[B, C, H, W]`; `token_mask`: `[B, N]`, 1 where masked, over
    /// `rows` rows of patches.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if images and pixels differ in shape, [`crate::Error::Invalid`] if
    /// the token mask does not divide the images.
    pub fn new(
        images: &Tensor,
        token_mask: &Tensor,
        rows: i64,
        predicted: &Tensor,
    ) -> Result<Self> {
        let [batch, _, height, width] = image_shape(images)?;
        expect_shape("reconstruction", "predicted pixels", predicted, &images.size())?;
        let images = images.f_to_kind(tch::Kind::Float)?;
        let masked = masked_pixels(token_mask, rows, [batch, height, width])?;
        let masked = masked.f_expand_as(&images)?.f_contiguous()?;
        let reconstructed = predicted.f_where_self(&masked.f_gt(0.5)?, &images)?;
        Ok(Self { images, masked, reconstructed })
    }
}
