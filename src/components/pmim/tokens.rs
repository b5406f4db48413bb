//! Which patch tokens are hidden.

use crate::error::expect_shape;
use crate::{Error, Result};
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// Patch tokens to hide, and what takes their place.
#[derive(Debug)]
pub struct MaskedTokens<'a> {
    /// 1 where a token is hidden, `[B, N]`, row-major over the token grid.
    pub mask: &'a Tensor,
    /// The learned token that replaces it, `[1, 1, E]`; positions are added afterwards.
    pub token: &'a Tensor,
}

impl MaskedTokens<'_> {
    /// Replaces the hidden tokens of `x`, `[B, N, E]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if mask or token do not match the tokens.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.size3()?;
        expect_shape("hiding tokens", "token mask", self.mask, &[batch, tokens])?;
        expect_shape("hiding tokens", "mask token", self.token, &[1, 1, width])?;
        let mask = self.mask.f_unsqueeze(-1)?.f_to_kind(x.kind())?;
        Ok(x.f_lerp_tensor(&self.token.f_expand_as(x)?, &mask)?)
    }
}

/// ⌈ratio · tokens⌉ tokens of every image, drawn with libtorch's global generator.
///
/// # Shapes
/// Result: `[batch, tokens]`, f32, 1 where hidden.
///
/// # Errors
/// [`Error::Invalid`] if `ratio` is outside [0, 1), or there are no images or no tokens.
pub fn random_token_mask(batch: i64, tokens: i64, ratio: f64, device: Device) -> Result<Tensor> {
    let hidden = hidden_tokens(batch, tokens, ratio)?;
    let noise = Tensor::f_rand([batch, tokens], (Kind::Float, device))?;
    let places = noise.f_argsort_stable(true, 1, false)?.f_argsort_stable(true, 1, false)?;
    Ok(places.f_lt(hidden)?.f_to_kind(Kind::Float)?)
}

/// The same, drawn from a seed on the host: libtorch's generator is left alone.
pub(crate) fn seeded_token_mask(
    seed: u64,
    [batch, tokens]: [i64; 2],
    ratio: f64,
    device: Device,
) -> Result<Tensor> {
    let hidden = hidden_tokens(batch, tokens, ratio)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut image: Vec<f32> = (0..tokens).map(|at| f32::from(u8::from(at < hidden))).collect();
    let mut mask = Vec::with_capacity((batch * tokens) as usize);
    for _ in 0..batch {
        image.shuffle(&mut random);
        mask.extend_from_slice(&image);
    }
    Ok(Tensor::f_from_slice(&mask)?.f_view([batch, tokens])?.f_to_device(device)?)
}

/// ⌈ratio · tokens⌉, if there is something to hide; one token stays visible.
fn hidden_tokens(batch: i64, tokens: i64, ratio: f64) -> Result<i64> {
    if !(0.0..1.0).contains(&ratio) {
        return Err(Error::invalid("mask ratio", "within [0, 1)", ratio));
    }
    for (name, count) in [("images to hide tokens of", batch), ("patch tokens", tokens)] {
        if count < 1 {
            return Err(Error::invalid(name, "at least 1", count));
        }
    }
    // 0.07 · 100 is a little more than 7 in floating point, and means 7.
    Ok(((ratio * tokens as f64 - 1e-9).ceil() as i64).min(tokens - 1))
}
