//! Gradients of task and reconstruction loss in the network's variables.

use super::finite::Checked;
use super::flat_gradients::FlatGradients;
use super::options::PmimReach;
use super::step::Search;
use crate::autograd;
use crate::batch::Batch;
use crate::models::Architecture;
use crate::supernet::Output;
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
}

/// Images of a batch that are seen whole, or with masked tokens.
struct Part {
    batch: Batch,
    masked: bool,
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
            self.supernet.leaves().into_iter().unzip();
        let apart = self.masks_apart();
        let [mut seen, mut hidden] = [None, None];
        let (mut task, mut reconstruction) = (Tensor::new(), None);
        for batch in batches {
            (task, reconstruction) = (Tensor::new(), None);
            for part in self.parts(batch)? {
                let (own_task, loss) = self.model_losses(&part, checked)?;
                let total = with_reconstruction(&own_task, loss.as_ref())?;
                let total = total.f_mul_scalar(part.share / batches.len() as f64)?;
                let name = "task loss and reconstruction loss";
                let computed = autograd::gradients(name, &total, &leaves, false)?;
                let own = FlatGradients::gather(layout, device, &names, computed)?;
                let sum = if apart && part.masked { &mut hidden } else { &mut seen };
                FlatGradients::add(sum, own)?;
                let own = own_task.f_detach()?.f_mul_scalar(part.share)?;
                task = if task.defined() { task.f_add(&own)? } else { own };
                reconstruction = loss.map(|loss| loss.f_detach()).transpose()?.or(reconstruction);
            }
        }
        let seen = match seen {
            Some(seen) => seen,
            None => FlatGradients::none(layout, device)?,
        };
        Ok(ModelGradients { seen, masked: hidden, task, reconstruction })
    }

    /// Returns whether the gradient of images with masked tokens does not reach scores and α.
    fn masks_apart(&self) -> bool {
        self.options.pmim.is_some_and(|pmim| pmim.reach == PmimReach::Weights)
    }

    /// Returns the images of a batch that are seen whole, and those with masked tokens.
    fn parts(&self, batch: &Batch) -> Result<Vec<Part>> {
        let count = batch.images.size()[0];
        let masking = self.supernet.reconstruction().is_some() && self.mask_ratio() > 0.0;
        // Scores and α learn from the images that are seen whole, if not from all.
        let most = if self.masks_apart() { count - 1 } else { count };
        let share = self.options.pmim.filter(|_| masking).map_or(0.0, |pmim| pmim.images);
        let masked = ((share * count as f64).round() as i64).min(most);
        let whole = Part { batch: batch.narrow(0, count - masked)?, masked: false, share: 1.0 };
        let rest = Part { batch: batch.narrow(count - masked, masked)?, masked: true, share: 1.0 };
        let parts = [(whole, count - masked), (rest, masked)].into_iter();
        let parts = parts.filter(|(_, images)| *images > 0);
        Ok(parts.map(|(own, n)| Part { share: n as f64 / count as f64, ..own }).collect())
    }

    /// Returns task and reconstruction loss of a part of a batch, and adds them to what is checked.
    fn model_losses(&self, part: &Part, checked: &mut Checked) -> Result<(Tensor, Option<Tensor>)> {
        let Part { batch, masked, .. } = part;
        let taught = self.taught(&batch.images)?;
        if *masked {
            let (output, loss) = self.reconstructed(&batch.images, checked)?;
            return Ok((self.task(batch, &output, taught.as_ref(), checked)?, loss));
        }
        let features = taught.as_ref().is_some_and(|(_, teacher)| teacher.features.is_some());
        let output = match features {
            true => self.supernet.forward_features(&batch.images, true)?,
            false => self.supernet.forward(&batch.images, None, true)?,
        };
        Ok((self.task(batch, &output, taught.as_ref(), checked)?, None))
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
        let token_mask = pmim.token_mask(count, rows * columns, ratio, images.device())?;
        let output = self.supernet.forward(images, Some(&token_mask), true)?;
        let Some(prediction) = &output.reconstruction else { return Ok((output, None)) };
        let loss = pmim.loss(&pmim.targets(images)?, prediction, &token_mask, rows)?;
        Checked::add(&mut checked.reconstruction, &loss)?;
        Ok((output, Some(loss)))
    }
}

/// Returns task + w_rec·reconstruction, with w_rec = task / reconstruction a constant to autograd
/// (paper section 3.4).
fn with_reconstruction(task: &Tensor, reconstruction: Option<&Tensor>) -> Result<Tensor> {
    let Some(loss) = reconstruction else { return Ok(task.shallow_clone()) };
    let weight = task.f_detach()?.f_div(&loss.f_detach()?.f_clamp_min(1e-12)?)?;
    Ok(task.f_add(&loss.f_mul(&weight)?)?)
}
