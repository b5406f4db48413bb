//! Forward passes of the network at θ ⊙ gates.

use super::Supernet;
use crate::models::{Architecture, Logits, Network};
use crate::tensors::widened;
use crate::{Error, Result};
use tch::Tensor;

/// Output of a forward pass.
#[derive(Debug)]
pub struct Output {
    /// Logits of the classifier.
    pub logits: Logits,
    /// Final features of all tokens, `[B, tokens, E]`; `None` unless asked for.
    pub features: Option<Tensor>,
    /// Predicted pixels, `[B, C, H, W]`; `None` without a token mask.
    pub reconstruction: Option<Tensor>,
}

impl<A: Architecture> Supernet<A> {
    /// Runs the network's forward pass at the weights of the last
    /// [`materialise`](Self::materialise); with a token mask, also the decoder.
    ///
    /// # Shapes
    /// `images`: `[B, C, H, W]`; `token_mask`: `[B, N]`, 1 where masked.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a token mask if the supernet was built without `pmim`.
    pub fn forward(
        &self,
        images: &Tensor,
        token_mask: Option<&Tensor>,
        train: bool,
    ) -> Result<Output> {
        let images = &images.f_to_kind(self.compute)?;
        let Some(mask) = token_mask else {
            let logits = self.network.forward(images, train)?.widened()?;
            return Ok(Output { logits, features: None, reconstruction: None });
        };
        let reconstruction = self.reconstruction.as_ref().ok_or_else(|| Error::Unsupported {
            model: A::FAMILY.into(),
            operation: "a token mask without masked image modeling",
        })?;
        let masked = reconstruction.masked_tokens(mask);
        let (logits, features) = self.network.forward_masked(images, &masked, train)?;
        let pixels = widened(&reconstruction.decode(&features)?)?;
        let logits = logits.widened()?;
        Ok(Output { logits, features: None, reconstruction: Some(pixels) })
    }

    /// Runs the network's forward pass as [`forward`](Self::forward) does without a token mask, and
    /// returns the features too.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a network without
    /// [`forward_features`](Network::forward_features).
    pub fn forward_features(&self, images: &Tensor, train: bool) -> Result<Output> {
        let images = images.f_to_kind(self.compute)?;
        let (logits, features) = self.network.forward_features(&images, train)?;
        let logits = logits.widened()?;
        Ok(Output { logits, features: Some(features), reconstruction: None })
    }

    /// Returns the logits in evaluation mode, `[B, classes]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images do not have the network's input shape.
    pub fn network_logits(&self, images: &Tensor) -> Result<Tensor> {
        crate::autograd::no_grad(|| self.forward(images, None, false)?.logits.prediction())
    }
}
