//! Evaluation of a search between two steps: its predictions, its masked image modeling.

use super::step::Search;
use crate::components::{seeded_token_mask, Reconstruction};
use crate::models::Architecture;
use crate::randomness::{derive_seed, Purpose};
use crate::supernet::Supernet;
use crate::{Error, Result};
use tch::Tensor;

impl<A: Architecture> Search<A> {
    /// Evaluates the network as of now: with its weights materialised and, where the options keep
    /// an EMA, with the EMA in place of weights and scores until `evaluate` returns.
    ///
    /// ```no_run
    /// # use once_for_both::prelude::*;
    /// # fn top1(search: &mut Search<VitConfig>, images: &tch::Tensor) -> once_for_both::Result<tch::Tensor> {
    /// search.evaluate(|supernet| supernet.network_logits(images))
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `evaluate`; [`Error::Torch`] if libtorch refuses.
    pub fn evaluate<T>(&mut self, evaluate: impl FnOnce(&Supernet<A>) -> Result<T>) -> Result<T> {
        let began = self.between_steps()?;
        let value = self.evaluate_now(evaluate);
        self.timer.leave_out(began);
        value
    }

    fn evaluate_now<T>(&mut self, evaluate: impl FnOnce(&Supernet<A>) -> Result<T>) -> Result<T> {
        if self.ema.as_ref().is_none_or(|ema| ema.updates() == 0) {
            self.materialise()?;
            return evaluate(&self.supernet);
        }
        self.swap_ema_weights()?;
        let value = evaluate(&self.supernet);
        self.swap_ema_weights()?;
        value
    }

    /// Swaps weights and scores with their EMA, and materialises; a second call swaps them back.
    fn swap_ema_weights(&mut self) -> Result<()> {
        let Some(ema) = &self.ema else { return Ok(()) };
        crate::autograd::no_grad(|| {
            for mut parameter in self.supernet.parameters() {
                let Some(mean) = ema.values().get(&parameter.name) else { continue };
                let present = parameter.value.f_detach_copy()?;
                parameter.value.f_copy_(mean)?;
                mean.shallow_clone().f_copy_(&present)?;
            }
            Ok::<(), Error>(())
        })?;
        self.materialise()
    }

    /// Reconstructs `images`, `[B, C, H, W]`, with as large a share of patch tokens masked as in the
    /// next step.
    ///
    /// The search is not disturbed: the mask is drawn on the host from seed and step, and the network
    /// is in evaluation. Its weights are materialised.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without PMIM, which ends with the search; [`Error::Shape`] if the
    /// images are not what the model takes.
    pub fn reconstruct(&self, images: &Tensor) -> Result<Reconstruction> {
        self.reconstruct_masking(images, self.mask_ratio())
    }

    /// [`reconstruct`](Self::reconstruct) with another mask ratio.
    ///
    /// # Errors
    /// Those of [`reconstruct`](Self::reconstruct); [`Error::Invalid`] if `ratio` is outside [0, 1).
    pub fn reconstruct_masking(&self, images: &Tensor, ratio: f64) -> Result<Reconstruction> {
        let began = self.between_steps()?;
        let reconstruction = self.reconstruct_now(images, ratio);
        self.timer.leave_out(began);
        reconstruction
    }

    fn reconstruct_now(&self, images: &Tensor, ratio: f64) -> Result<Reconstruction> {
        let Some(ports) = self.supernet.reconstruction() else {
            let operation = "reconstruction: there is no masked image modeling in this phase";
            return Err(Error::Unsupported { model: A::FAMILY.into(), operation });
        };
        let [rows, columns] = ports.token_grid();
        let batch = images.size().first().copied().unwrap_or(0);
        let seed = derive_seed(self.options.seed, self.step, Purpose::Reconstruct);
        let tokens = [batch, rows * columns];
        crate::autograd::no_grad(|| {
            let mask = seeded_token_mask(seed, tokens, ratio, images.device())?;
            self.supernet.materialise(&self.present_gates()?)?;
            let output = self.supernet.forward(images, Some(&mask), false)?;
            let prediction = output.reconstruction.ok_or_else(|| Error::Unsupported {
                model: A::FAMILY.into(),
                operation: "reconstruction without a decoder",
            })?;
            let pixels = self.components.pmim.to_pixels(images, &prediction)?;
            Reconstruction::new(images, &mask, rows, &pixels)
        })
    }
}
