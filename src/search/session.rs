//! The state of a run, and one step of it.

use super::event::{Event, Guarded, Listener, Losses, Phase, StepMetrics};
use super::gradients::StepLosses;
use super::guard::Guard;
use super::method::Method;
use super::options::{Order, Precision, SearchOptions};
use super::start::start;
use crate::cost::{Budget, Metric};
use crate::data::Batch;
use crate::error::During;
use crate::loss::BudgetLoss;
use crate::models::Architecture;
use crate::optim::{AdamW, Average};
use crate::randomness::{enter, Purpose};
use crate::space::SearchSpace;
use crate::supernet::{Parameter, ParameterKind, Supernet, Weights};
use crate::{Error, Result};
use std::rc::Rc;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// A search (or plain training) in progress.
#[derive(Debug)]
pub struct Session<A: Architecture> {
    pub(super) supernet: Supernet<A>,
    pub(super) options: SearchOptions,
    pub(super) budgets: Vec<Budget>,
    pub(super) budget_loss: BudgetLoss,
    pub(super) optimiser: AdamW,
    pub(super) method: Method,
    pub(super) average: Option<Average>,
    pub(super) guard: Guard,
    pub(super) step: u64,
    pub(super) phase: Phase,
    /// Gates of the last step: where a landing begins.
    pub(super) last_gates: Vec<Tensor>,
    /// Dimensions that projection had to decide.
    pub(super) projected: usize,
    pub(super) timer: (Instant, u64),
}

impl<A: Architecture> Session<A> {
    /// A session that starts from `weights` (from fresh ones if `None`) and searches `space`
    /// under `budgets`, by the method that the options describe.
    ///
    /// # Errors
    /// Everything that would make the run fail later: options out of range, a budget the space
    /// cannot meet, weights or bindings that do not fit.
    pub fn new(
        architecture: A,
        space: SearchSpace,
        weights: Option<&Weights>,
        budgets: Vec<Budget>,
        options: SearchOptions,
        device: Device,
    ) -> Result<Self> {
        let method = Method::of(&options)?;
        Self::with_method(method, architecture, space, weights, budgets, options, device)
    }

    /// A session by a method of one's own.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_method(
        method: Method,
        architecture: A,
        space: SearchSpace,
        weights: Option<&Weights>,
        budgets: Vec<Budget>,
        options: SearchOptions,
        device: Device,
    ) -> Result<Self> {
        options.check()?;
        let searching = options.search_steps > 0 && !space.dimensions.is_empty();
        if searching && budgets.is_empty() {
            return Err(Error::invalid("number of budgets", "at least one for a search", 0));
        }
        enter(options.seed, 0, Purpose::Initialise);
        let pmim = options.pmim.filter(|_| searching);
        let space = if searching { space } else { SearchSpace::empty() };
        let mut supernet = Supernet::new(architecture, space, pmim.is_some(), device)?;
        for budget in budgets.iter().chain(&options.reach) {
            budget.check(supernet.cost_model(), supernet.space())?;
        }
        if options.distillation.is_some() && method.teacher.is_none() {
            return Err(Error::invalid("teacher", "one, to distil from", "none"));
        }
        if let Some(weights) = weights {
            supernet.load_weights(weights)?;
        }
        supernet.weigh_by(Rc::clone(&method.bi_mask));
        start(&mut supernet, &options, &*method.importance).during("preparing the search")?;
        let mut session = Self::assemble(supernet, budgets, options, method)?;
        session.phase = if searching { Phase::Search } else { Phase::Finetune };
        Ok(session)
    }

    /// The session around a supernet, at step 0.
    pub(super) fn assemble(
        supernet: Supernet<A>,
        budgets: Vec<Budget>,
        options: SearchOptions,
        method: Method,
    ) -> Result<Self> {
        let average = options.average.map(Average::new).transpose()?;
        let guard = Guard::new(0, supernet.device())?;
        let mut session = Self {
            budget_loss: BudgetLoss::new(
                supernet.cost_model(),
                supernet.space(),
                &budgets,
                options.budget_weight,
                supernet.device(),
            )?,
            supernet,
            options,
            budgets,
            optimiser: AdamW::new(),
            average,
            guard,
            method,
            step: 0,
            phase: Phase::Search,
            last_gates: Vec::new(),
            projected: 0,
            timer: (Instant::now(), 0),
        };
        session.compute_as_due()?;
        Ok(session)
    }

    /// Optimiser steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Whether all steps are done.
    pub fn is_done(&self) -> bool {
        self.step >= self.options.total_steps
    }

    /// What the next step is for.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The network under search.
    pub fn supernet(&self) -> &Supernet<A> {
        &self.supernet
    }

    /// The network under search, to set scores, α or weights before the first step.
    pub fn supernet_mut(&mut self) -> &mut Supernet<A> {
        &mut self.supernet
    }

    /// The options.
    pub fn options(&self) -> &SearchOptions {
        &self.options
    }

    /// The budgets.
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    /// λ of the next step.
    pub fn lambda(&self) -> f64 {
        self.options.lambda_at(self.step)
    }

    /// Share of patch tokens hidden in the next step.
    pub fn mask_ratio(&self) -> f64 {
        match (self.phase, &self.options.pmim) {
            (Phase::Search, Some(pmim)) => pmim.ratio.at(self.step),
            _ => 0.0,
        }
    }

    /// Writes the weights as of now into the model, for evaluation between steps.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch refuses.
    pub fn materialise(&mut self) -> Result<()> {
        self.supernet.materialise(&self.present_gates()?)
    }

    /// One optimiser step over one or more micro-batches of equal size, whose gradients are
    /// averaged; then, when it is due, pruning.
    ///
    /// # Errors
    /// [`Error::Diverged`] if, at a logged step, too many in a row were not finite;
    /// [`Error::Invalid`] without a batch or after the last step; those of the model and of the
    /// listener.
    pub fn step(&mut self, batches: &[Batch], listener: &mut dyn Listener) -> Result<()> {
        if batches.is_empty() {
            return Err(Error::invalid("number of batches", "at least one", 0));
        }
        if self.is_done() {
            let expected = format!("below total_steps {}", self.options.total_steps);
            return Err(Error::invalid("step", expected, self.step));
        }
        let operation = format!("step {}", self.step);
        let losses = self.advance(batches).during(operation)?;
        if self.step.is_multiple_of(self.options.log_interval) {
            self.log(&losses, listener)?;
        }
        self.step += 1;
        if self.phase == Phase::Search {
            self.decide(&batches[0].images, listener)?;
        }
        if self.is_done() {
            self.compute_as_due()?;
        }
        Ok(())
    }

    /// bf16 where the options want it, f32 once all steps are done.
    pub(super) fn compute_as_due(&mut self) -> Result<()> {
        let half = self.options.precision == Precision::Bf16 && !self.is_done();
        self.supernet.compute_in(if half { Kind::BFloat16 } else { Kind::Float })?;
        self.materialise()
    }

    fn advance(&mut self, batches: &[Batch]) -> Result<StepLosses> {
        let mut step = self.gradients(batches)?;
        let parameters = self.supernet.parameters();
        let go = self.clip_and_guard(&parameters, &mut step)?;
        if self.phase == Phase::Search {
            self.follow_importance(&mut step)?;
        }
        self.update(parameters, &step.parameters, &go)?;
        self.take_average()?;
        self.last_gates = step.gates;
        Ok(step.losses)
    }

    /// Takes weights and scores into the moving average, if there is one.
    fn take_average(&mut self) -> Result<()> {
        let Some(average) = &mut self.average else { return Ok(()) };
        let parameters = self.supernet.parameters();
        let averaged = parameters.iter().filter(|p| p.kind != ParameterKind::Alpha);
        average.update(averaged.map(|p| (&p.name, &p.value)))
    }

    /// Exchanges weights and scores with their moving average, for evaluation or extraction; a
    /// second call puts them back. Materialises what is then present.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the session keeps no average, or before its first step.
    pub fn exchange_average(&mut self) -> Result<()> {
        let Some(average) = self.average.as_ref().filter(|average| average.updates() > 0) else {
            let expected = "an average of at least one step (option average)";
            return Err(Error::invalid("moving average", expected, "none"));
        };
        tch::no_grad(|| {
            for mut parameter in self.supernet.parameters() {
                let Some(mean) = average.values().get(&parameter.name) else { continue };
                let present = parameter.value.f_detach_copy()?;
                parameter.value.f_copy_(mean)?;
                mean.shallow_clone().f_copy_(&present)?;
            }
            Ok::<(), Error>(())
        })?;
        self.materialise()
    }

    fn update(
        &mut self,
        parameters: Vec<Parameter>,
        gradients: &Weights,
        go: &Tensor,
    ) -> Result<()> {
        let options = self.options.optimiser;
        let weight_rate = options.weight_rate.at(self.step);
        for mut parameter in parameters {
            if self.waits(parameter.kind) {
                continue;
            }
            let Some(gradient) = gradients.get(&parameter.name) else { continue };
            let (rate, mut group) = match parameter.kind {
                ParameterKind::Weight | ParameterKind::Reconstruction => {
                    (weight_rate, options.weights)
                }
                ParameterKind::Score => (self.score_rate(weight_rate), options.weights),
                ParameterKind::Alpha => (options.alpha_rate, options.alpha),
            };
            if !parameter.decays() {
                group.weight_decay = 0.0;
            }
            let (name, value) = (&parameter.name, &mut parameter.value);
            self.optimiser.update(name, value, gradient, go, rate, &group)?;
        }
        Ok(())
    }

    /// Whether parameters of a kind stay what they are in this step.
    fn waits(&self, kind: ParameterKind) -> bool {
        let stage = match (self.phase, self.options.order) {
            (Phase::Search, Order::ImportanceFirst { steps }) => Some(self.step < steps),
            _ => None,
        };
        match kind {
            ParameterKind::Weight => self.options.freeze_weights,
            ParameterKind::Reconstruction => false,
            ParameterKind::Score => stage == Some(false),
            ParameterKind::Alpha => stage == Some(true),
        }
    }

    /// Once the units are chosen, a score is a plain scale and moves like a weight.
    fn score_rate(&self, weight_rate: f64) -> f64 {
        match self.phase {
            Phase::Search => self.options.optimiser.score_rate,
            Phase::Finetune => weight_rate,
        }
    }

    /// Tells of a step, or that it was skipped. Reads from the device.
    fn log(&mut self, losses: &StepLosses, listener: &mut dyn Listener) -> Result<()> {
        let before = self.guard.seen;
        let (skipped, in_a_row) = self.guard.read()?;
        if skipped > before {
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
            skipped: self.guard.seen,
            step_ms: since.elapsed().as_secs_f64() * 1e3 / steps as f64,
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

    pub(super) fn alphas(&self) -> Vec<Tensor> {
        self.supernet.states().iter().map(|state| state.alpha.shallow_clone()).collect()
    }
}
