//! How features stay rich: progressive masked image modeling (paper section 3.4).
//!
//! A growing share of the patch tokens is hidden from the network, and a one-layer decoder has
//! to paint the hidden patches from the features of the rest.

mod decoder;
mod reconstruction;
mod regularizer;
mod tokens;
mod window;

pub use decoder::PixelDecoder;
pub use reconstruction::Reconstruction;
pub use regularizer::{masked_pixels, PmimRegularizer, WindowedPixels};
pub(crate) use tokens::seeded_token_mask;
pub use tokens::{random_token_mask, MaskedTokens};
pub use window::WindowNorm;
