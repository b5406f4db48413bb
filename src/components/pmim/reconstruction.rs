//! What masked image modeling sees and paints.

use super::regularizer::masked_pixels;
use super::window::image_shape;
use crate::error::expect_shape;
use crate::Result;
use tch::Tensor;

/// Images, what was hidden of them, and what was painted there. All three are `[B, C, H, W]`, f32,
/// with pixels as normalised as the network takes them.
#[derive(Debug)]
pub struct Reconstruction {
    /// The images.
    pub images: Tensor,
    /// 1 in the pixels of hidden patches, 0 elsewhere.
    pub hidden: Tensor,
    /// The images with the hidden patches painted.
    pub painted: Tensor,
}

impl Reconstruction {
    /// Puts a painting into the hidden patches of `images`.
    ///
    /// # Shapes
    /// `images`, `painting`: `[B, C, H, W]`; `token_mask`: `[B, N]`, 1 where hidden, over `rows`
    /// rows of patches.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] or [`crate::Error::Invalid`] if they do not match.
    pub fn new(images: &Tensor, token_mask: &Tensor, rows: i64, painting: &Tensor) -> Result<Self> {
        let [batch, _, height, width] = image_shape(images)?;
        expect_shape("reconstruction", "painting", painting, &images.size())?;
        let images = images.f_to_kind(tch::Kind::Float)?;
        let hidden = masked_pixels(token_mask, rows, [batch, height, width])?;
        let hidden = hidden.f_expand_as(&images)?.f_contiguous()?;
        let painted = painting.f_where_self(&hidden.f_gt(0.5)?, &images)?;
        Ok(Self { images, hidden, painted })
    }
}
