//! Masking of patch tokens.

use crate::error::expect_shape;
use crate::{Error, Result};
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// A token mask and the learned mask token.
#[derive(Debug)]
pub struct MaskedTokens<'a> {
    /// 1 where a token is masked, `[B, N]`, row-major over the token grid.
    pub mask: &'a Tensor,
    /// Mask token, `[1, 1, E]`. Position embeddings are added after the replacement.
    pub token: &'a Tensor,
}

impl MaskedTokens<'_> {
    /// Returns the tokens with every masked one replaced by the mask token.
    ///
    /// # Shapes
    /// `x` and result: `[B, N, E]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if mask or mask token do not match the tokens.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.size3()?;
        expect_shape("token masking", "token mask", self.mask, &[batch, tokens])?;
        expect_shape("token masking", "mask token", self.token, &[1, 1, width])?;
        let mask = self.mask.f_unsqueeze(-1)?.f_to_kind(x.kind())?;
        Ok(x.f_lerp_tensor(&self.token.f_expand_as(x)?, &mask)?)
    }
}

/// Returns a random token mask with ⌈ratio · tokens⌉ masked tokens in every image, and at least one
/// token unmasked; drawn with libtorch's global generator.
///
/// # Shapes
/// Result: `[batch, tokens]`, f32, 1 where masked.
///
/// # Errors
/// [`Error::Invalid`] if `ratio` is outside [0, 1), or there are no images or no tokens.
pub fn random_token_mask(batch: i64, tokens: i64, ratio: f64, device: Device) -> Result<Tensor> {
    let masked = masked_count(batch, tokens, ratio)?;
    let noise = Tensor::f_rand([batch, tokens], (Kind::Float, device))?;
    let places = noise.f_argsort_stable(true, 1, false)?.f_argsort_stable(true, 1, false)?;
    Ok(places.f_lt(masked)?.f_to_kind(Kind::Float)?)
}

/// [`random_token_mask`] drawn from `seed` on the host, without libtorch's generator.
pub(crate) fn seeded_token_mask(
    seed: u64,
    [batch, tokens]: [i64; 2],
    ratio: f64,
    device: Device,
) -> Result<Tensor> {
    let masked = masked_count(batch, tokens, ratio)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut image: Vec<f32> = (0..tokens).map(|at| f32::from(u8::from(at < masked))).collect();
    let mut mask = Vec::with_capacity((batch * tokens) as usize);
    for _ in 0..batch {
        image.shuffle(&mut random);
        mask.extend_from_slice(&image);
    }
    Ok(Tensor::f_from_slice(&mask)?.f_view([batch, tokens])?.f_to_device(device)?)
}

/// Returns the number of masked tokens, min(⌈ratio · tokens⌉, tokens − 1).
fn masked_count(batch: i64, tokens: i64, ratio: f64) -> Result<i64> {
    if !(0.0..1.0).contains(&ratio) {
        return Err(Error::invalid("mask ratio", "within [0, 1)", ratio));
    }
    for (name, count) in [("number of images", batch), ("number of patch tokens", tokens)] {
        if count < 1 {
            return Err(Error::invalid(name, "at least 1", count));
        }
    }
    // In floating point 0.07 · 100 exceeds 7, and its ceiling must still be 7.
    Ok(((ratio * tokens as f64 - 1e-9).ceil() as i64).min(tokens - 1))
}
