//! Progressive masked image modeling, PMIM (paper section 3.4).
//!
//! In every step of the search a share γ of the patch tokens is replaced by a learned mask token,
//! and a one-layer decoder reconstructs the pixels of the masked patches from the network's output
//! features. γ rises linearly over the warm-up. The reconstruction loss is added to the task loss
//! with the weight task / reconstruction, so both contribute equally.

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
