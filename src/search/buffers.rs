//! Floating-point variables that the network is built not to learn, such as the running statistics of a batch norm: a
//! skipped step leaves them unchanged, and all ranks hold the same.

use super::step::Search;
use crate::autograd::no_grad;
use crate::models::Architecture;
use crate::tensors::joined;
use crate::Result;
use tch::Tensor;

/// Buffers of a network, and their values before a step.
pub(super) struct GuardedBuffers {
    own: Vec<Tensor>,
    /// Values before the step, joined.
    before: Tensor,
}

impl<A: Architecture> Search<A> {
    /// Returns the buffers, with a copy of their values; `None` for a network without any.
    pub(super) fn guarded_buffers(&self) -> Result<Option<GuardedBuffers>> {
        let own = self.supernet.built_buffers();
        if own.is_empty() {
            return Ok(None);
        }
        let before = no_grad(|| joined(&own))?;
        Ok(Some(GuardedBuffers { own, before }))
    }

    /// Averages the changes of the buffers in a step over the ranks, or gives the buffers back their values before it
    /// where it is skipped (`go` is 0).
    pub(super) fn settle_buffers(
        &self,
        buffers: Option<&GuardedBuffers>,
        go: &Tensor,
    ) -> Result<()> {
        let Some(GuardedBuffers { own, before }) = buffers else { return Ok(()) };
        no_grad(|| {
            let present = self.averaged_buffers(before, joined(own)?)?;
            let values = present.f_where_self(&go.f_gt(0.5)?, before)?;
            let mut first = 0;
            for own in own {
                let length = own.numel() as i64;
                let value = values.f_narrow(0, first, length)?.f_view(&own.size()[..])?;
                own.shallow_clone().f_copy_(&value)?;
                first += length;
            }
            Ok(())
        })
    }

    /// Returns before + mean over the ranks of (present − before). A value that no rank changes stays exactly as it is:
    /// the mean of equal values is rounded.
    fn averaged_buffers(&self, before: &Tensor, present: Tensor) -> Result<Tensor> {
        if self.share().is_whole() {
            return Ok(present);
        }
        let mut changes = present.f_sub(before)?;
        // ∞ − ∞ is NaN.
        let _ = changes.f_masked_fill_(&present.f_eq_tensor(before)?, 0.0)?;
        Ok(before.f_add(&self.mean_of_ranks(changes)?)?)
    }
}
