//! The state of a run, and one step of it.

use super::event::{Listener, Phase};
use super::guard::{Counts, Guard};
use super::method::Method;
use super::options::{Precision, SearchOptions};
use super::start::start;
use super::step::StepLosses;
use crate::cost::{expect_projectable, Budget};
use crate::data::Batch;
use crate::error::During;
use crate::loss::BudgetLoss;
use crate::models::Architecture;
use crate::optim::{AdamW, Average};
use crate::randomness::{enter, Purpose};
use crate::space::SearchSpace;
use crate::supernet::{Supernet, Weights};
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
        if searching {
            expect_projectable(supernet.cost_model(), supernet.space(), &budgets)?;
        }
        if options.distillation.is_some() && method.teacher.is_none() {
            return Err(Error::invalid("teacher", "one, to distil from", "none"));
        }
        if let Some(weights) = weights {
            supernet.load_weights(weights)?;
        }
        supernet.weigh_by(Rc::clone(&method.bi_mask));
        start(&mut supernet, &options, &*method.importance, &budgets)
            .during("preparing the search")?;
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
        let guard = Guard::new(Counts::default(), supernet.device())?;
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
    /// [`Error::Invalid`] without a batch, with batches of different sizes, or after the last step;
    /// those of the model and of the listener.
    pub fn step(&mut self, batches: &[Batch], listener: &mut dyn Listener) -> Result<()> {
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
            self.follow_importance(&mut step, &go)?;
        }
        self.update(parameters, &step.parameters, &go)?;
        self.take_average()?;
        self.last_gates = step.gates;
        Ok(step.losses)
    }

    pub(super) fn alphas(&self) -> Vec<Tensor> {
        self.supernet.states().iter().map(|state| state.alpha.shallow_clone()).collect()
    }
}
