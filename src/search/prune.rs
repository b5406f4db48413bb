//! Fade-outs, pruning of faded units, and the end of the search.

use super::events::{Event, Finished, Listener, Phase, Pruned};
use super::evidence::Evidence;
use super::readout::DimensionReadout;
use super::step::Search;
use crate::components::BudgetLoss;
use crate::cost::Metric;
use crate::error::During;
use crate::models::Architecture;
use crate::space::{DimensionKind, Size};
use crate::supernet::{DimensionState, Narrowing};
use crate::tensors::to_host;
use crate::Result;
use tch::Tensor;

/// Largest number of images on which the change of the logits by pruning is measured.
const PROBE_IMAGES: i64 = 8;

impl<A: Architecture> Search<A> {
    /// Dimensions with units that no active candidate keeps, and without a fade-out in progress.
    pub(super) fn shrinking(&self) -> Vec<usize> {
        let states = self.supernet.states().iter().enumerate();
        let shrinking = states.filter(|(_, state)| {
            state.fade_out.is_none() && state.active.largest() != state.candidates().full()
        });
        shrinking.map(|(at, _)| at).collect()
    }

    /// Begins the fade-out of the units that no active candidate of these dimensions keeps.
    pub(super) fn begin_fade_out(
        &mut self,
        dimensions: Vec<usize>,
        readout: &[DimensionReadout],
    ) -> Result<()> {
        if dimensions.is_empty() {
            return Ok(());
        }
        let sizes: Vec<(usize, Size)> = dimensions
            .into_iter()
            .map(|at| (at, self.supernet.states()[at].active.largest()))
            .collect();
        // m₀ = gates of the last step. Gates computed now would already lack the dropped candidates
        // in V, and the output would jump.
        let gates = std::mem::take(&mut self.last_gates);
        let gates = if gates.is_empty() { self.present_gates()? } else { gates };
        let states = self.supernet.states();
        let kept = sizes.iter().map(|&(at, size)| readout[at].kept_units(&states[at], size));
        let kept: Vec<Vec<i64>> = kept.collect();
        self.supernet.begin_fade_out_to(&sizes, &kept, &gates, self.step)?;
        self.teaching.align(&self.supernet)
    }

    /// Returns the gates of the next step, without gradients.
    pub(super) fn present_gates(&self) -> Result<Vec<Tensor>> {
        crate::autograd::no_grad(|| {
            let masks = self.supernet.masks(self.lambda())?;
            Ok(masks.into_iter().map(|mask| mask.mask).collect())
        })
    }

    /// Returns whether a fade-out is in progress.
    pub(super) fn is_fading_out(&self) -> bool {
        self.fade_out_end().is_some()
    }

    /// Returns the step after which the last fade-out in progress ends.
    pub(super) fn fade_out_end(&self) -> Option<u64> {
        let fade_outs = self.supernet.states().iter().filter_map(|s| s.fade_out.as_ref());
        let under_way = fade_outs.filter(|fade_out| !fade_out.in_place);
        under_way.map(|fade_out| fade_out.since + self.options.pruning.fade_out_steps).max()
    }

    /// Sets the remaining share r of every fade-out for the next step.
    pub(super) fn advance_fade_outs(&mut self) {
        let (step, steps) = (self.step, self.options.pruning.fade_out_steps.max(1));
        let all = self.supernet.states_mut().iter_mut().filter_map(|s| s.fade_out.as_mut());
        for fade_out in all.filter(|fade_out| !fade_out.in_place) {
            let done = (step - fade_out.since + 1) as f64 / steps as f64;
            fade_out.remaining = (1.0 - done).max(0.0);
        }
    }

    /// Prunes the units whose fade-out has ended.
    pub(super) fn prune_faded(
        &mut self,
        images: &Tensor,
        listener: &mut dyn Listener,
    ) -> Result<()> {
        let (step, steps) = (self.step, self.options.pruning.fade_out_steps);
        let states = self.supernet.states().iter().enumerate();
        let faded: Vec<(usize, Size)> = states
            .filter_map(|(at, state)| {
                let fade_out = state.fade_out.as_ref().filter(|fade_out| !fade_out.in_place)?;
                (fade_out.since + steps <= step).then_some((at, fade_out.size))
            })
            .collect();
        if faded.is_empty() {
            return Ok(());
        }
        let probe = images.f_narrow(0, 0, PROBE_IMAGES.min(images.size()[0]))?;
        // The images may hold NaN, in which case the step was skipped: NaN becomes 0, so that logits
        // can be compared.
        let probe = probe.f_nan_to_num(0.0, 0.0, 0.0)?;
        self.prune(&faded, &probe, listener).during(format!("pruning after step {step}"))
    }

    /// Narrows dimensions to the given sizes, and emits how far zeroing gates, slicing
    /// attention and hidden units, and slicing embedding channels change the logits of `probe`.
    fn prune(
        &mut self,
        targets: &[(usize, Size)],
        probe: &Tensor,
        listener: &mut dyn Listener,
    ) -> Result<()> {
        let smaller =
            |(at, size): &&(usize, Size)| self.supernet.states()[*at].candidates().full() != *size;
        let units: std::collections::BTreeMap<_, _> = targets
            .iter()
            .filter(smaller)
            .map(|&(at, size)| {
                let state = &self.supernet.states()[at];
                (state.name.clone(), [state.candidates().units(), size.units()])
            })
            .collect();
        if units.is_empty() {
            return self.narrow(targets).map(drop);
        }
        let dimensions = &self.supernet.space().dimensions;
        let (embedding, exact): (Vec<_>, Vec<_>) =
            targets.iter().partition(|(at, _)| dimensions[*at].kind == DimensionKind::Embedding);

        let before = self.probe_logits(probe)?;
        for &(at, _) in targets {
            if let Some(fade_out) = self.supernet.states_mut()[at].fade_out.as_mut() {
                fade_out.remaining = 0.0;
            }
        }
        let masked = self.probe_logits(probe)?;
        self.narrow(&exact)?;
        let narrowed = self.probe_logits(probe)?;
        self.narrow(&embedding)?;
        let after = self.probe_logits(probe)?;
        let largest = [
            before.f_sub(&masked)?,
            masked.f_sub(&narrowed)?,
            narrowed.f_sub(&after)?,
            before.f_sub(&after)?,
            before,
        ];
        let largest = largest.iter().map(|own| own.f_abs()?.f_max());
        let largest: Vec<Tensor> = largest.collect::<std::result::Result<_, _>>()?;
        let largest = to_host(&Tensor::f_stack(&largest, 0)?)?;
        listener.on_event(&Event::Pruned(Pruned {
            step: self.step,
            units,
            gate_jump: largest[0],
            exact_difference: largest[1],
            embedding_jump: largest[2],
            total_jump: largest[3],
            logit_scale: largest[4],
            macs: self.supernet.cost_model().cost(Metric::Macs, &self.supernet.sizes())?,
        }))
    }

    /// Returns the logits of the supernet at its present gates.
    fn probe_logits(&self, probe: &Tensor) -> Result<Tensor> {
        self.supernet.materialise(&self.present_gates()?)?;
        self.supernet.network_logits(probe)
    }

    /// Narrows dimensions, given by number, to sizes: prunes all but the most important units from
    /// weights, scores, α, optimiser moments and EMA. Returns the slices that were taken.
    ///
    /// # Errors
    /// [`crate::Error::Candidates`] if no candidate fits into a size.
    pub fn narrow(&mut self, sizes: &[(usize, Size)]) -> Result<Narrowing> {
        let space = self.supernet.space().clone();
        let narrowing = self.supernet.narrow(sizes)?;
        if narrowing.is_empty() {
            return Ok(narrowing);
        }
        for name in narrowing.vanished() {
            self.optimiser.forget(name);
            self.ema.iter_mut().for_each(|ema| ema.forget(name));
        }
        self.optimiser.narrow(|name, moment| narrowing.apply(name, moment))?;
        if let Some(ema) = &mut self.ema {
            ema.narrow(|name, value| narrowing.apply(name, value))?;
        }
        self.budget_loss = BudgetLoss::new(
            self.supernet.cost_model(),
            self.supernet.space(),
            &self.limits,
            self.options.budget.weight,
            self.supernet.device(),
        )?;
        // A fade-out that begins before the next step starts from these gates.
        let scores: Vec<String> =
            self.supernet.states().iter().map(DimensionState::score_name).collect();
        for (gates, score) in self.last_gates.iter_mut().zip(&scores) {
            *gates = narrowing.apply(score, gates)?;
        }
        self.evidence.narrow(&narrowing, &space, &scores)?;
        self.teaching.align(&self.supernet)?;
        Ok(narrowing)
    }

    /// Ends the search: removes PMIM's variables and begins fine-tuning.
    pub(super) fn finish(&mut self, listener: &mut dyn Listener) -> Result<()> {
        self.phase = Phase::Finetune;
        self.evidence = Evidence::default();
        let before: Vec<String> = self.supernet.raw_weights().into_keys().collect();
        self.supernet.remove_reconstruction()?;
        let after = self.supernet.raw_weights();
        for name in before.iter().filter(|name| !after.contains_key(*name)) {
            self.optimiser.forget(name);
            if let Some(ema) = &mut self.ema {
                ema.forget(name);
            }
        }
        self.materialise()?;
        let sizes = self.supernet.sizes();
        let model = self.supernet.cost_model();
        let costs = self.limits.iter().map(|budget| model.cost(budget.metric, &sizes));
        let costs = costs.collect::<Result<_>>()?;
        let (step, projected) = (self.step, self.projected);
        listener.on_event(&Event::Finished(Finished { step, projected, costs }))
    }
}
