//! Gradients and losses of one optimiser step: of the network's variables, scores and α.

use super::events::Phase;
use super::finite::Checked;
use super::flat_gradients::FlatGradients;
use super::model_gradients::ModelGradients;
use super::options::Balance;
use super::step::Search;
use crate::autograd;
use crate::batch::Batch;
use crate::components::Mask;
use crate::models::Architecture;
use crate::randomness::{seed_torch, Purpose};
use crate::supernet::Weights;
use crate::{Error, Result};
use tch::{Device, Tensor};

/// Gradients of one optimiser step, before any parameter moves.
#[derive(Debug)]
pub struct StepGradients {
    /// Gradients of θ, mask token and decoder, before clipping.
    pub(super) weights: FlatGradients,
    /// Gradients of scores and α, by parameter name.
    pub(super) learned: Weights,
    /// Gates of every dimension, `[heads, channels]`.
    pub gates: Vec<Tensor>,
    /// Gradients of task and reconstruction loss in the gates, shaped like them.
    pub gate_gradients: Vec<Tensor>,
    /// Losses.
    pub losses: StepLosses,
    /// First-order effect of every unit on the loss, `[units]`; `None` unless a decision needs it.
    pub(super) effects: Option<Tensor>,
}

impl StepGradients {
    /// Returns the gradients of all parameters that a loss depends on, by parameter name, before
    /// clipping. Those of θ share memory with this value.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch fails.
    pub fn parameters(&self) -> Result<Weights> {
        let mut all = self.weights.named()?;
        all.extend(self.learned.iter().map(|(name, own)| (name.clone(), own.shallow_clone())));
        Ok(all)
    }
}

/// Losses of one optimiser step, scalars on the device.
#[derive(Debug)]
pub struct StepLosses {
    /// Task loss of the last batch.
    pub task: Tensor,
    /// Reconstruction loss of the last batch, unweighted; `None` without masked tokens.
    pub reconstruction: Option<Tensor>,
    /// Σ over undecided dimensions of weight × one-hot loss.
    pub one_hot: Tensor,
    /// Budget loss.
    pub budget: Tensor,
    /// What has to be finite for the step to be made, summed over the batches.
    pub(super) checked: Checked,
}

impl<A: Architecture> Search<A> {
    /// Returns gradients and losses of the next step: materialise, forward and backward, pull back.
    /// No parameter moves. Autograd is on meanwhile, whatever mode the caller has set.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a batch, if batches differ in size (each counts the same) or are
    /// on another device, for a class index out of range (on other devices than the CPU the step is
    /// skipped instead, so that it does not wait for the device), or for a loss of a component
    /// without gradient; [`Error::Shape`] for class probabilities of another number of classes;
    /// those of the model; [`Error::Torch`] if a batch does not fit.
    pub fn gradients(&self, batches: &[Batch]) -> Result<StepGradients> {
        expect_valid(batches, self.supernet.device())?;
        autograd::with_grad(|| self.differentiate(batches))
    }

    fn differentiate(&self, batches: &[Batch]) -> Result<StepGradients> {
        seed_torch(self.options.seed, self.step, Purpose::Step);
        let masks = self.supernet.masks(self.lambda())?;
        let gates: Vec<Tensor> =
            masks.iter().map(|mask| mask.mask.f_detach()).collect::<Result<_, _>>()?;
        self.supernet.materialise(&gates)?;
        let mut checked = Checked::default();
        let ModelGradients { seen: mut weights, masked, task, reconstruction } =
            self.model_gradients(batches, &mut checked)?;
        let gate_gradients = self.supernet.pull_back(&weights.tensors, &gates)?;
        let effects = self.effects(&gates, &gate_gradients, &weights.tensors)?;
        if let Some(masked) = masked {
            // The gradients in the gates are dropped: they do not reach scores and α.
            self.supernet.pull_back(&masked.tensors, &gates)?;
            weights.add_to(masked)?;
        }
        let mut learned = Weights::new();
        let (one_hot, budget) =
            self.architecture_gradients(&masks, &gate_gradients, &mut learned)?;
        checked.one_hot = Some(one_hot.shallow_clone());
        checked.budget = Some(budget.shallow_clone());
        let losses = StepLosses { task, reconstruction, one_hot, budget, checked };
        Ok(StepGradients { weights, learned, gates, gate_gradients, losses, effects })
    }

    /// Adds the gradients of scores and α: from the gates, the budget loss and the one-hot loss.
    /// Returns one-hot and budget loss.
    fn architecture_gradients(
        &self,
        masks: &[Mask],
        gate_gradients: &[Tensor],
        gradients: &mut Weights,
    ) -> Result<(Tensor, Tensor)> {
        let states = self.supernet.states();
        let device = self.supernet.device();
        let zero = Tensor::f_zeros([0i64; 0], (tch::Kind::Float, device))?;
        let mut one_hot = zero.shallow_clone();
        if states.is_empty() {
            return Ok((one_hot, zero));
        }
        let mut penalty = zero.shallow_clone();
        let mut pulled = zero.shallow_clone();
        for (mask, gradient) in masks.iter().zip(gate_gradients) {
            pulled = pulled.f_add(&mask.mask.f_mul(gradient)?.f_sum(None)?)?;
        }
        let mut budget = zero;
        if self.phase == Phase::Search {
            if !self.estimates() {
                budget = self.budget_loss.loss(&self.alphas(), &self.supernet.active())?;
                pulled = pulled.f_add(&budget)?;
            }
            for (at, state) in
                states.iter().enumerate().filter(|(_, s)| s.active.decided().is_none())
            {
                let kind = self.supernet.space().dimensions[at].kind;
                let loss = &self.components.one_hot;
                let weight = self.options.one_hot.weight;
                if !self.estimates() {
                    let on_alpha = loss.alpha_loss(&state.alpha, &state.active)?;
                    one_hot = one_hot.f_add(&on_alpha.f_mul_scalar(weight)?)?;
                }
                let on_scores =
                    loss.importance_loss(kind, &masks[at].importance)?.f_mul_scalar(weight)?;
                penalty = penalty.f_add(&on_scores)?;
            }
        }
        self.score_and_alpha_gradients(&pulled.f_add(&penalty)?, &one_hot, gradients)?;
        Ok((one_hot.f_add(&penalty)?.f_detach()?, budget.f_detach()?))
    }

    /// Runs the backward passes to scores and α, and adds their gradients.
    fn score_and_alpha_gradients(
        &self,
        pulled: &Tensor,
        one_hot: &Tensor,
        gradients: &mut Weights,
    ) -> Result<()> {
        let states = self.supernet.states();
        let undecided = || states.iter().filter(|state| state.active.decided().is_none());
        let scores = states.iter().map(|state| (state.score_name(), &state.score));
        let alphas = undecided().map(|state| (state.alpha_name(), &state.alpha));
        let (names, leaves): (Vec<_>, Vec<_>) = scores.chain(alphas).unzip();
        let names: Vec<&String> = names.iter().collect();
        let name = "bi-masks and losses of scores and α";
        let computed = autograd::gradients(name, pulled, &leaves, false)?;
        let own = names.iter().zip(computed).filter(|(_, gradient)| gradient.defined());
        gradients.extend(own.map(|(name, gradient)| ((*name).clone(), gradient)));
        if !one_hot.requires_grad() {
            return Ok(());
        }
        let leaves: Vec<&Tensor> = undecided().map(|state| &state.alpha).collect();
        let computed = autograd::gradients("one-hot loss of α", one_hot, &leaves, false)?;
        for (state, one_hot) in undecided().zip(computed) {
            let gradient = gradients
                .entry(state.alpha_name())
                .or_insert(crate::autograd::no_grad(|| state.alpha.f_zeros_like())?);
            *gradient = crate::autograd::no_grad(|| self.balance(gradient, &one_hot))?;
        }
        Ok(())
    }

    /// Returns the sum of the gradient of task and budget and the weighted one-hot gradient.
    fn balance(&self, gradient: &Tensor, one_hot: &Tensor) -> Result<Tensor> {
        match self.options.one_hot.balance {
            Balance::Sum => Ok(gradient.f_add(one_hot)?),
            Balance::Ramp { ratio } => {
                let progress = self.step as f64 / self.options.search_steps.max(1) as f64;
                let (own, other) = (gradient.f_norm()?, one_hot.f_norm()?.f_clamp_min(1e-30)?);
                let scale = own.f_div(&other)?.f_mul_scalar(ratio * progress.min(1.0))?;
                Ok(gradient.f_add(&one_hot.f_mul(&scale)?)?)
            }
        }
    }
}

/// Refuses batches of different sizes, whose gradients would be averaged with equal weight, images
/// that are not floating point or on another device than the network, and targets that do not fit
/// the images.
fn expect_valid(batches: &[Batch], device: Device) -> Result<()> {
    batches.iter().try_for_each(|batch| batch.check(device))?;
    let size = |batch: &Batch| batch.images.size().first().copied().unwrap_or(0);
    let Some(first) = batches.first().map(size) else {
        return Err(Error::invalid("number of batches", "at least one", 0));
    };
    if first < 1 {
        return Err(Error::invalid("images of a batch", "at least one", first));
    }
    match batches.iter().map(size).find(|&other| other != first) {
        None => Ok(()),
        Some(other) => {
            let expected = format!("{first}, as in the first batch of the step");
            Err(Error::invalid("images of a batch", expected, other))
        }
    }
}
