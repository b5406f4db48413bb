//! A look at masked image modeling while it goes on.

use super::session::Session;
use crate::models::Architecture;
use crate::pmim::{seeded_token_mask, Reconstruction};
use crate::randomness::{mix, Purpose};
use crate::{Error, Result};
use tch::Tensor;

impl<A: Architecture> Session<A> {
    /// What the network, as of now, paints into hidden patches of `images`, `[B, C, H, W]`, where
    /// as many are hidden as in the next step.
    ///
    /// Training goes on as if nobody had looked. Patches are drawn on the host from seed and step,
    /// so that libtorch's generator is not touched, and the network evaluates (no dropout). The
    /// weights as of now are written into the model, as [`materialise`](Self::materialise) does.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is no PMIM, or no more: it ends with the search;
    /// [`Error::Shape`] if the images are not what the model takes.
    pub fn reconstruct(&self, images: &Tensor) -> Result<Reconstruction> {
        self.reconstruct_hiding(images, self.mask_ratio())
    }

    /// [`reconstruct`](Self::reconstruct) with another share of patch tokens hidden.
    ///
    /// # Errors
    /// Those of [`reconstruct`](Self::reconstruct); [`Error::Invalid`] if `ratio` is outside [0, 1).
    pub fn reconstruct_hiding(&self, images: &Tensor, ratio: f64) -> Result<Reconstruction> {
        let Some(ports) = self.supernet.reconstruction() else {
            let operation = "reconstruction: there is no masked image modeling (any more)";
            return Err(Error::Unsupported { model: A::FAMILY.into(), operation });
        };
        let [rows, columns] = ports.token_grid();
        let batch = images.size().first().copied().unwrap_or(0);
        let seed = mix(self.options.seed, self.step, Purpose::Painting);
        let tokens = [batch, rows * columns];
        tch::no_grad(|| {
            let mask = seeded_token_mask(seed, tokens, ratio, images.device())?;
            self.supernet.materialise(&self.present_gates()?)?;
            let output = self.supernet.forward(images, Some(&mask), false)?;
            let prediction = output.reconstruction.ok_or_else(|| Error::Unsupported {
                model: A::FAMILY.into(),
                operation: "reconstruction without a decoder",
            })?;
            let painting = self.method.reconstruction.paint(images, &prediction)?;
            Reconstruction::new(images, &mask, rows, &painting)
        })
    }
}
