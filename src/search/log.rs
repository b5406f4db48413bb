//! What a logged step tells. Beside pruning, the only part of a step that reads from the device.

use super::event::{Event, Guarded, Listener, Losses, StepMetrics};
use super::guard::Counts;
use super::session::Session;
use super::step::StepLosses;
use crate::cost::{Budget, Metric};
use crate::loss::BudgetLoss;
use crate::models::Architecture;
use crate::{Error, Result};
use std::time::Instant;
use tch::{Kind, Tensor};

impl<A: Architecture> Session<A> {
    /// Tells of a step, or that it was skipped. Reads from the device.
    pub(super) fn log(&mut self, losses: &StepLosses, listener: &mut dyn Listener) -> Result<()> {
        let Counts { skipped, in_a_row, told } = self.guard.counts()?;
        self.guard.told = skipped;
        if skipped > told {
            let step = self.step + 1;
            let action = Guarded::Skipped;
            listener.notice(&Event::Guard { step, skipped, in_a_row, action })?;
        }
        if in_a_row >= self.options.skips_in_a_row {
            return Err(Error::Diverged { step: self.step, in_a_row });
        }
        if in_a_row == 0 {
            let metrics = self.metrics(losses)?;
            listener.notice(&Event::Step(metrics))?;
        }
        Ok(())
    }

    /// Reads a step's losses from the device.
    fn metrics(&mut self, losses: &StepLosses) -> Result<StepMetrics> {
        let read = |tensor: &Tensor| tensor.f_to_kind(Kind::Double)?.f_double_value(&[]);
        let (task, one_hot, budget) =
            (read(&losses.task)?, read(&losses.one_hot)?, read(&losses.budget)?);
        let reconstruction = losses.reconstruction.as_ref().map(read).transpose()?.unwrap_or(0.0);
        // The reconstruction is weighted to the size of the task loss.
        let weighted = if losses.reconstruction.is_some() { task } else { 0.0 };
        let total = task + one_hot + budget + weighted;
        let (since, first) = std::mem::replace(&mut self.timer, (Instant::now(), self.step + 1));
        let steps = (self.step + 1 - first).max(1);
        Ok(StepMetrics {
            step: self.step,
            phase: self.phase,
            loss: Losses { task, one_hot, budget, reconstruction, total },
            lambda: self.lambda(),
            mask_ratio: self.mask_ratio(),
            macs_expected: self.expected_macs()?,
            macs_active: self.supernet.cost_model().cost(Metric::Macs, &self.supernet.sizes())?,
            lr: self.options.optimiser.weight_rate.at(self.step),
            skipped: self.guard.told,
            step_ms: since.elapsed().as_secs_f64() * 1e3 / steps as f64,
            dimensions: self.dimension_metrics()?,
        })
    }

    /// MACs at the expected sizes of all dimensions.
    fn expected_macs(&self) -> Result<f64> {
        let supernet = &self.supernet;
        let macs = [Budget::macs(0.0)];
        let (cost, device) = (supernet.cost_model(), supernet.device());
        let expected = BudgetLoss::new(cost, supernet.space(), &macs, 0.0, device)?;
        let alphas = self.alphas();
        let costs = tch::no_grad(|| expected.expected_costs(&alphas, &supernet.active()))?;
        Ok(costs[0].f_double_value(&[])?)
    }
}
