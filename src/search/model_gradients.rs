//! Gradients of task and reconstruction loss in the network's variables.

use super::finite::Checked;
use super::flat_gradients::FlatGradients;
use super::options::PmimReach;
use super::ranks::Placed;
use super::step::Search;
use crate::autograd;
use crate::batch::Batch;
use crate::models::Architecture;
use crate::randomness::{for_images, placed};
use crate::supernet::{Output, Recorded};
use crate::Result;
use tch::Tensor;

/// Gradients in the network's variables of one optimiser step, averaged over its batches, and the
/// losses of the last batch.
pub(super) struct ModelGradients {
    /// Gradients that reach scores and α.
    pub(super) seen: FlatGradients,
    /// Gradients of images with masked tokens that do not; `None` unless `pmim.reach` is `weights`.
    pub(super) masked: Option<FlatGradients>,
    /// Task loss, mixed with the distillation loss where there is a teacher.
    pub(super) task: Tensor,
    pub(super) reconstruction: Option<Tensor>,
    /// Part of the objective that reconstructs: w_rec·reconstruction of the images with masked tokens, times their
    /// share of the batch.
    pub(super) weighted: Option<Tensor>,
}

/// Name of what is differentiated, in errors.
pub(super) const LOSSES: &str = "task loss and reconstruction loss";

/// Images of a batch that are seen whole, or with masked tokens.
pub(super) struct Part {
    pub(super) batch: Batch,
    pub(super) masked: bool,
    /// Their places among the images of all ranks.
    pub(super) images: Placed,
    /// Their share of the batch.
    share: f64,
}

impl<A: Architecture> Search<A> {
    /// Returns the gradients of task and reconstruction loss in the network's variables.
    pub(super) fn model_gradients(
        &self,
        batches: &[Batch],
        checked: &mut Checked,
    ) -> Result<ModelGradients> {
        let (layout, device) = (self.supernet.theta().layout(), self.supernet.device());
        let (names, leaves): (Vec<String>, Vec<Tensor>) =
            self.supernet.differentiated(self.needs_evidence()).into_iter().unzip();
        let _recorded = Recorded::new(&leaves)?;
        let (apart, ranks) = (self.masks_apart(), self.share().world_size());
        let share = 1.0 / (ranks * batches.len()) as f64;
        let [mut seen, mut hidden] = [None, None];
        let (mut task, mut reconstruction, mut weighted) = (Tensor::new(), None, None);
        let mut early = false;
        for batch in batches {
            (task, reconstruction, weighted) = (Tensor::new(), None, None);
            let parts = self.parts(batch)?;
            early = self.sums_early(batches, parts.len());
            for part in parts {
                let placement = part.images.placement(device)?;
                let (own_task, loss) = placed(placement, || self.model_losses(&part, checked))?;
                let own_weighted = match &loss {
                    Some(loss) => Some(self.weighted(&own_task, loss, &part.images)?),
                    None => None,
                };
                let total = match &own_weighted {
                    Some(own) => own_task.f_add(own)?,
                    None => own_task.shallow_clone(),
                };
                let total = total.f_mul_scalar(part.share * share)?;
                let computed = match early {
                    true => self.summed_gradients(&total, part.masked, &names, &leaves)?,
                    false => autograd::gradients(LOSSES, &total, &leaves, false)?,
                };
                let own = FlatGradients::gather(layout, device, &names, computed)?;
                let sum = if apart && part.masked { &mut hidden } else { &mut seen };
                FlatGradients::add(sum, own)?;
                let own = own_task.f_detach()?.f_mul_scalar(part.share)?;
                if let (Some(loss), Some(own)) = (loss, own_weighted) {
                    reconstruction = Some(loss.f_detach()?);
                    weighted = Some(own.f_detach()?.f_mul_scalar(part.share)?);
                }
                task = if task.defined() { task.f_add(&own)? } else { own };
            }
        }
        let seen = match seen {
            Some(seen) => seen,
            None => FlatGradients::none(layout, device)?,
        };
        if !early {
            for own in [Some(&seen), hidden.as_ref()].into_iter().flatten() {
                self.sum_gradients(own)?;
            }
        }
        Ok(ModelGradients { seen, masked: hidden, task, reconstruction, weighted })
    }

    /// Returns whether the gradient of images with masked tokens does not reach scores and α.
    fn masks_apart(&self) -> bool {
        self.options.pmim.is_some_and(|pmim| pmim.reach == PmimReach::Weights)
    }

    /// Returns the images of a batch that are seen whole, and those with masked tokens.
    fn parts(&self, batch: &Batch) -> Result<Vec<Part>> {
        let own = batch.images.size()[0];
        let count = own * self.share().world_size() as i64;
        let masking = self.supernet.reconstruction().is_some() && self.mask_ratio() > 0.0;
        let masked = if masking { self.options.masked_images(count) } else { 0 };
        let mut first = 0;
        let parts = Placed::split(self.share(), own, masked)?.into_iter().zip([false, true]);
        let parts = parts.filter(|(images, _)| images.own > 0).map(|(images, masked)| {
            let part = batch.narrow(first, images.own)?;
            first += images.own;
            Ok(Part { batch: part, masked, share: images.own as f64 / own as f64, images })
        });
        parts.collect()
    }

    /// Returns task and reconstruction loss of a part of a batch, and adds them to what is checked.
    fn model_losses(&self, part: &Part, checked: &mut Checked) -> Result<(Tensor, Option<Tensor>)> {
        let Part { batch, masked, .. } = part;
        let taught = self.taught(&batch.images)?;
        if *masked {
            let (output, loss) = self.reconstructed(&batch.images, checked)?;
            return Ok((self.task(part, &output, taught.as_ref(), checked)?, loss));
        }
        let features = taught.as_ref().is_some_and(|(_, teacher)| teacher.features.is_some());
        let output = match features {
            true => self.supernet.forward_features(&batch.images, true)?,
            false => self.supernet.forward(&batch.images, None, true)?,
        };
        Ok((self.task(part, &output, taught.as_ref(), checked)?, None))
    }

    /// Returns the output for images with masked tokens, and the reconstruction loss.
    fn reconstructed(
        &self,
        images: &Tensor,
        checked: &mut Checked,
    ) -> Result<(Output, Option<Tensor>)> {
        let pmim = &self.components.pmim;
        let [rows, columns] = self.supernet.reconstruction().map_or([0; 2], |own| own.token_grid());
        let (count, ratio) = (images.size()[0], self.mask_ratio());
        let draw = |count| pmim.token_mask(count, rows * columns, ratio, images.device());
        let token_mask = for_images(count, draw)?;
        let output = self.supernet.forward(images, Some(&token_mask), true)?;
        let Some(prediction) = &output.reconstruction else { return Ok((output, None)) };
        let loss = pmim.loss(&pmim.targets(images)?, prediction, &token_mask, rows)?;
        Checked::add(&mut checked.reconstruction, &loss)?;
        Ok((output, Some(loss)))
    }

    /// Returns w_rec·reconstruction, with w_rec = |task| / reconstruction a constant to autograd (paper section 3.4), of the
    /// images of all ranks.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a reconstruction loss without gradient.
    fn weighted(&self, task: &Tensor, loss: &Tensor, images: &Placed) -> Result<Tensor> {
        let name = format!("reconstruction loss of {}", self.components.pmim.id());
        autograd::expect_graph(&name, loss)?;
        let [all_task, all_loss] = match self.share().is_whole() {
            true => [task.f_detach()?, loss.f_detach()?],
            false => {
                let sums = Tensor::f_stack(&[task, loss], 0)?.f_mul_scalar(images.own as f64)?;
                let means = self.of_all_ranks(&sums, images)?.f_div_scalar(images.own as f64)?;
                [means.f_get(0)?, means.f_get(1)?]
            }
        };
        let weight = all_task.f_abs()?.f_div(&all_loss.f_clamp_min(1e-12)?)?;
        Ok(loss.f_mul(&weight)?)
    }
}
