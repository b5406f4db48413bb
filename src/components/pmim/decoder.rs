//! Decoder of masked image modeling: from patch features to pixels.

use crate::error::expect_shape;
use crate::{Error, Result};
use tch::{nn, Tensor};

/// One-layer decoder: a 1×1 convolution from patch features to patch²·C channels, then pixel
/// shuffle (paper section 3.4).
#[derive(Debug)]
pub struct PixelDecoder {
    weight: Tensor,
    bias: Tensor,
    patch: i64,
}

impl PixelDecoder {
    /// Creates the variables `weight`, `[patch² · channels, features, 1, 1]`, and `bias`,
    /// `[patch² · channels]`, under `path`.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device is out of memory.
    pub fn new(path: &nn::Path, features: i64, patch: i64, channels: i64) -> Result<Self> {
        let [(_, weight), (_, bias)] = Self::shapes(features, patch, channels);
        let bound = 1.0 / (features as f64).sqrt();
        let uniform = nn::Init::Uniform { lo: -bound, up: bound };
        let weight = path.f_var("weight", &weight, uniform)?;
        let bias = path.f_var("bias", &bias, uniform)?;
        Ok(Self { weight, bias, patch })
    }

    /// Returns names and shapes of the variables that [`new`](Self::new) creates.
    pub(crate) fn shapes(
        features: i64,
        patch: i64,
        channels: i64,
    ) -> [(&'static str, Vec<i64>); 2] {
        let pixels = patch.saturating_mul(patch).saturating_mul(channels);
        [("weight", vec![pixels, features, 1, 1]), ("bias", vec![pixels])]
    }

    /// Returns the predicted pixels.
    ///
    /// # Shapes
    /// `features`: `[B, N, E]` over a token grid of `rows` rows. Result:
    /// `[B, C, rows · patch, N / rows · patch]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the features do not have the decoder's width, [`Error::Invalid`] if
    /// `rows` does not divide N.
    pub fn decode(&self, features: &Tensor, rows: i64) -> Result<Tensor> {
        let (batch, tokens, width) = features.size3()?;
        let expected = [batch, tokens, self.weight.size()[1]];
        expect_shape("decode", "patch features", features, &expected)?;
        if rows < 1 || tokens % rows != 0 {
            let expected = format!("a divisor of {tokens} tokens");
            return Err(Error::invalid("rows of the token grid", expected, rows));
        }
        let grid = features.f_transpose(1, 2)?.f_reshape([batch, width, rows, tokens / rows])?;
        let bias = Some(&self.bias);
        let pixels = grid.f_conv2d(&self.weight, bias, [1, 1], [0, 0], [1, 1], 1)?;
        Ok(pixels.f_pixel_shuffle(self.patch)?)
    }
}
