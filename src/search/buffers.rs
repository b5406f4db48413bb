//! Floating-point buffers that the forward pass writes in training, such as the running statistics of a batch norm: a
//! skipped step leaves them unchanged, and all ranks hold the same.

use super::step::Search;
use crate::autograd::no_grad;
use crate::models::Architecture;
use crate::supernet::Weights;
use crate::tensors::{joined, to_host};
use crate::Result;
use tch::Tensor;

impl<A: Architecture> Search<A> {
    /// Returns copies of the buffers that a step writes; before the first step, which shows which these are, of all.
    pub(super) fn copied_buffers(&self) -> Result<Weights> {
        let written = self.written_buffers.as_ref();
        if written.is_some_and(Vec::is_empty) {
            return Ok(Weights::new());
        }
        let mut own = self.supernet.buffers();
        own.retain(|name, _| written.is_none_or(|written| written.contains(name)));
        let copy = |(name, own): (String, Tensor)| Ok((name, own.f_detach_copy()?));
        no_grad(|| own.into_iter().map(copy).collect())
    }

    /// Averages the buffers that a step has written over the ranks, or gives them back their values `before` it where it
    /// is skipped (`go` is 0).
    ///
    /// Reads from the device after the first step, in a network with floating-point buffers alone.
    pub(super) fn settle_buffers(&mut self, mut before: Weights, go: &Tensor) -> Result<()> {
        if before.is_empty() {
            self.written_buffers = Some(Vec::new());
            return Ok(());
        }
        let mut present = self.supernet.buffers();
        present.retain(|name, _| before.contains_key(name));
        no_grad(|| {
            let written = match self.written_buffers.take() {
                Some(written) => written,
                None => self.differing_buffers(&before, &present)?,
            };
            before.retain(|name, _| written.contains(name));
            present.retain(|name, _| written.contains(name));
            self.written_buffers = Some(written);
            self.average_buffers(&present)?;
            let made = go.f_gt(0.5)?;
            for ((_, own), former) in present.iter_mut().zip(before.values()) {
                let value = own.f_where_self(&made, former)?;
                own.f_copy_(&value)?;
            }
            Ok(())
        })
    }

    /// Returns the names of the buffers that differ from their values before a step on some rank.
    fn differing_buffers(&self, before: &Weights, present: &Weights) -> Result<Vec<String>> {
        let pairs = before.values().zip(present.values());
        let flags: Vec<Tensor> = pairs
            .map(|(former, own)| Ok(own.f_ne_tensor(former)?.f_any()?))
            .collect::<Result<_>>()?;
        let flags = to_host(&self.any_rank(Tensor::f_stack(&flags, 0)?)?)?;
        let differing = present.keys().zip(flags).filter(|(_, flag)| *flag != 0.0);
        Ok(differing.map(|(name, _)| name.clone()).collect())
    }

    /// Replaces buffers by their means over the ranks.
    fn average_buffers(&self, buffers: &Weights) -> Result<()> {
        if self.share().is_whole() || buffers.is_empty() {
            return Ok(());
        }
        let means = self.mean_of_ranks(joined(buffers.values())?)?;
        let mut first = 0;
        for own in buffers.values() {
            let length = own.numel() as i64;
            let mean = means.f_narrow(0, first, length)?.f_view(&own.size()[..])?;
            own.shallow_clone().f_copy_(&mean)?;
            first += length;
        }
        Ok(())
    }
}
