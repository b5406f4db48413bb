//! The state of a search, and one optimiser step of it.

#[cfg(feature = "distributed")]
use super::buckets::Buckets;
use super::events::{Listener, Phase};
use super::evidence::Evidence;
use super::gradients::{StepGradients, StepLosses};
use super::latency::SearchLatency;
use super::options::SearchOptions;
use super::step_timer::StepTimer;
use super::teaching::Teaching;
use super::update::{NonFiniteCounter, NonFiniteCounts};
use crate::batch::{images_of, Batch};
use crate::components::{BudgetLoss, Components};
use crate::cost::CostLimit;
use crate::distributed::{Collective, SingleProcess};
use crate::error::During;
use crate::models::Architecture;
use crate::optim::{AdamW, Ema};
use crate::precision::Precision;
use crate::supernet::Supernet;
use crate::{Error, Result};
use serde_json::Value;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
#[cfg(feature = "distributed")]
use std::sync::Mutex;
use tch::{Kind, Tensor};

/// A search in progress, or plain training.
///
/// Built by [`Search::of`] or [`Search::training`]; trained by [`run_in`](Self::run_in), by
/// [`train`](Self::train) or step by step; cut out by [`extract`](Self::extract).
///
/// It can move to another thread. libtorch's random generator belongs to the process, so two
/// searches that step at the same time are not reproducible.
#[derive(Debug)]
pub struct Search<A: Architecture> {
    pub(super) supernet: Supernet<A>,
    pub(super) options: SearchOptions,
    pub(super) limits: Vec<CostLimit>,
    pub(super) components: Components,
    /// Architecture and search space that the search was built with, as JSON.
    pub(super) origin: Value,
    pub(super) budget_loss: BudgetLoss,
    pub(super) optimiser: AdamW,
    pub(super) ema: Option<Ema>,
    pub(super) non_finite: NonFiniteCounter,
    pub(super) step: u64,
    pub(super) phase: Phase,
    /// Gates of the last step, from which a fade-out starts.
    pub(super) last_gates: Vec<Tensor>,
    /// Effects of units on the loss, for decisions by estimated losses.
    pub(super) evidence: Evidence,
    /// The dense network as a teacher.
    pub(super) teaching: Teaching<A>,
    /// Latency of the networks, where it was measured.
    pub(super) latency: Option<SearchLatency<A>>,
    /// The processes that train together.
    pub(super) group: Arc<dyn Collective>,
    /// Leaves whose gradients are summed together.
    #[cfg(feature = "distributed")]
    pub(super) buckets: Mutex<Option<Arc<Buckets>>>,
    /// Whether the images of the ranks were compared.
    pub(super) shares_compared: bool,
    /// Whether a one-hot loss without gradient was found to be 0.
    pub(super) one_hot_is_zero: AtomicBool,
    /// Dimensions decided by projection.
    pub(super) projected: usize,
    /// Time of the steps since the last logged one.
    pub(super) timer: StepTimer,
}

impl<A: Architecture> Search<A> {
    /// A search around a supernet, at step 0.
    pub(super) fn assemble(
        supernet: Supernet<A>,
        limits: Vec<CostLimit>,
        options: SearchOptions,
        components: Components,
        origin: Value,
    ) -> Result<Self> {
        let ema = options.training.ema_decay.map(Ema::new).transpose()?;
        let non_finite = NonFiniteCounter::new(NonFiniteCounts::default(), supernet.device())?;
        let mut search = Self {
            budget_loss: BudgetLoss::new(
                supernet.cost_model(),
                supernet.space(),
                &limits,
                options.budget.weight,
                supernet.device(),
            )?,
            supernet,
            options,
            limits,
            components,
            origin,
            optimiser: AdamW::new(),
            ema,
            non_finite,
            step: 0,
            phase: Phase::Search,
            last_gates: Vec::new(),
            evidence: Evidence::default(),
            teaching: Teaching::none(),
            latency: None,
            group: Arc::new(SingleProcess),
            #[cfg(feature = "distributed")]
            buckets: Mutex::default(),
            shares_compared: false,
            one_hot_is_zero: AtomicBool::new(false),
            projected: 0,
            timer: StepTimer::start(0),
        };
        search.teaching.align(&search.supernet)?;
        search.set_compute_precision()?;
        Ok(search)
    }

    /// Optimiser steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Whether all optimiser steps are done.
    pub fn is_done(&self) -> bool {
        self.step >= self.options.total_steps
    }

    /// Phase of the next step.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The supernet.
    pub fn supernet(&self) -> &Supernet<A> {
        &self.supernet
    }

    /// The supernet, to set scores, α or weights before the first step.
    pub fn supernet_mut(&mut self) -> &mut Supernet<A> {
        &mut self.supernet
    }

    /// The options.
    pub fn options(&self) -> &SearchOptions {
        &self.options
    }

    /// The components.
    pub fn components(&self) -> &Components {
        &self.components
    }

    /// The budgets, in units of their metrics.
    pub fn limits(&self) -> &[CostLimit] {
        &self.limits
    }

    /// λ of the next step.
    pub fn lambda(&self) -> f64 {
        self.options.lambda_at(self.step)
    }

    /// γ of the next step: the share of patch tokens that are masked.
    pub fn mask_ratio(&self) -> f64 {
        match (self.phase, &self.options.pmim) {
            (Phase::Search, Some(pmim)) => pmim.mask_ratio.at(self.step),
            _ => 0.0,
        }
    }

    /// Writes θ ⊙ gates, as of now, into the network's variables. [`extract`](Self::extract) and
    /// [`evaluate`](Self::evaluate) do so themselves.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch refuses.
    pub fn materialise(&mut self) -> Result<()> {
        self.supernet.materialise(&self.present_gates()?)
    }

    /// Makes one optimiser step over one or more batches of equal size, whose gradients are
    /// averaged; then, when it is due, a prune step.
    ///
    /// Where several processes train together, the batches are this rank's share of those of all, and
    /// all ranks make the step together. Each rank gives as many images: [`train`](Self::train) and a [`Run`](super::Run)
    /// check it, this call does not.
    ///
    /// # Errors
    /// [`Error::Diverged`] if, at a logged step, too many steps in a row were skipped;
    /// [`Error::Invalid`] without a batch, with batches of different sizes, or after the last step;
    /// those of the model, the components and the listener; [`Error::Distributed`] if another rank
    /// failed.
    pub fn step(&mut self, batches: &[Batch], listener: &mut dyn Listener) -> Result<()> {
        let made = self.make_step(batches, listener);
        self.told(made)
    }

    fn make_step(&mut self, batches: &[Batch], listener: &mut dyn Listener) -> Result<()> {
        if self.is_done() {
            let expected = format!("below total_steps {}", self.options.total_steps);
            return Err(Error::invalid("step", expected, self.step));
        }
        let operation = format!("step {}", self.step);
        let losses = self.advance(batches).during(operation)?;
        // The last one, too: a divergence after the last logged step would go unnoticed.
        let last = self.step + 1 == self.options.total_steps;
        if last || self.step.is_multiple_of(self.options.log_interval) {
            self.log(&losses, listener)?;
        }
        self.step += 1;
        if self.phase == Phase::Search {
            self.decide(&batches[0].images, listener)?;
        }
        if self.is_done() {
            self.set_compute_precision()?;
        }
        Ok(())
    }

    /// bf16 where the options want it, f32 once all steps are done.
    pub(super) fn set_compute_precision(&mut self) -> Result<()> {
        let half = self.options.training.precision == Precision::Bf16 && !self.is_done();
        self.supernet.set_compute_kind(if half { Kind::BFloat16 } else { Kind::Float })?;
        self.materialise()
    }

    fn advance(&mut self, batches: &[Batch]) -> Result<StepLosses> {
        self.supernet.join_learned()?;
        let buffers = self.guarded_buffers()?;
        let StepGradients { weights, learned, gates, gate_gradients, losses, effects } =
            self.gradients(batches)?;
        let gradients = self.laid_out(weights, &learned)?;
        let go = self.clip_and_guard(&gradients, &losses.checked)?;
        self.settle_buffers(buffers.as_ref(), &go)?;
        let images = images_of(batches) * self.share().world_size() as i64;
        self.remember(effects.as_ref(), images, &go)?;
        let computed = self.update_importance(&gates, &gate_gradients, &go)?;
        self.update(gradients.without(&computed), &go)?;
        self.update_ema()?;
        self.last_gates = gates;
        Ok(losses)
    }
}
