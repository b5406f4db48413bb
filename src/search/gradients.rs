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
use crate::space::DimensionKind;
use crate::supernet::{DimensionState, Weights};
use crate::tensors::joined;
use crate::{Error, Result};
use std::sync::atomic::Ordering;
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
    /// The part of the objective of the last batch that reconstructs, w_rec·reconstruction of the images with masked
    /// tokens times their share of the batch; `None` without masked tokens.
    pub weighted_reconstruction: Option<Tensor>,
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
        let ModelGradients { seen: mut weights, masked, task, reconstruction, weighted } =
            self.model_gradients(batches, &mut checked)?;
        let gate_gradients = self.supernet.pull_back(&weights.tensors, &gates)?;
        let effects = self.effects(&gates, &gate_gradients, &weights.tensors)?;
        if let Some(masked) = masked {
            // The gradients in the gates are dropped: they do not reach scores and α.
            self.supernet.pull_back(&masked.tensors, &gates)?;
            weights.add_to(masked)?;
        }
        weights.leave_out(&self.supernet.frozen(self.needs_evidence()))?;
        let mut learned = Weights::new();
        let (one_hot, budget) =
            self.architecture_gradients(&masks, &gate_gradients, &mut learned)?;
        checked.one_hot = Some(one_hot.shallow_clone());
        checked.budget = Some(budget.shallow_clone());
        let losses = StepLosses {
            task,
            reconstruction,
            weighted_reconstruction: weighted,
            one_hot,
            budget,
            checked,
        };
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
        if states.is_empty() {
            return Ok((zero.shallow_clone(), zero));
        }
        let gates: Vec<&Tensor> = masks.iter().map(|mask| &mask.mask).collect();
        let mut pulled = joined(gates)?.f_dot(&joined(gate_gradients)?)?;
        let (mut one_hot, mut penalty) = (zero.shallow_clone(), zero.shallow_clone());
        let mut budget = zero;
        if self.phase == Phase::Search {
            let (loss, weight) = (&self.components.one_hot, self.options.one_hot.weight);
            if !self.estimates() {
                let (alphas, sets) = (self.supernet.all_alphas(), self.supernet.active_sets()?);
                budget = self.budget_loss.loss(&alphas, &sets)?;
                pulled = pulled.f_add(&budget)?;
                one_hot = loss.alpha_losses(&alphas, &sets)?;
                if weight != 0.0 && !self.supernet.is_decided() {
                    self.expect_learnable(&one_hot)?;
                }
                one_hot = one_hot.f_mul_scalar(weight)?;
            }
            let undecided = states.iter().enumerate().filter(|(_, s)| s.active.decided().is_none());
            let importance: Vec<(DimensionKind, &Tensor)> = undecided
                .map(|(at, _)| (self.supernet.space().dimensions[at].kind, &masks[at].importance))
                .collect();
            if !importance.is_empty() {
                penalty = loss.importance_losses(&importance)?.f_mul_scalar(weight)?;
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
        let is_open = |state: &DimensionState| state.active.decided().is_none();
        let scores = states.iter().map(|state| (state.score_name(), &state.score));
        let alphas = states.iter().map(|state| (state.alpha_name(), &state.alpha));
        let (names, leaves): (Vec<String>, Vec<&Tensor>) = scores.chain(alphas).unzip();
        let name = "bi-masks and losses of scores and α";
        let mut computed = autograd::gradients(name, pulled, &leaves, false)?;
        if one_hot.requires_grad() {
            let alphas = &leaves[states.len()..];
            let one_hot = autograd::gradients("one-hot loss of α", one_hot, alphas, false)?;
            let own = computed.split_off(states.len());
            computed.extend(autograd::no_grad(|| self.balanced(own, one_hot))?);
        }
        let open = states.iter().map(|_| true).chain(states.iter().map(is_open));
        let own = names.into_iter().zip(computed).zip(open);
        let own = own.filter(|((_, gradient), open)| *open && gradient.defined());
        gradients.extend(own.map(|(named, _)| named));
        Ok(())
    }

    /// Refuses a one-hot loss of α that has a value and no gradient, while a dimension is undecided: it would have no
    /// effect. That of a component whose terms are all switched off is 0. Reads from the device once a search where there
    /// is no gradient: a loss that is 0 the first time, and has a value without gradient later, is not found.
    fn expect_learnable(&self, one_hot: &Tensor) -> Result<()> {
        if one_hot.requires_grad() || self.one_hot_is_zero.load(Ordering::Relaxed) {
            return Ok(());
        }
        if one_hot.f_double_value(&[])? != 0.0 {
            return autograd::expect_graph("one-hot loss of α", one_hot);
        }
        self.one_hot_is_zero.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the sums of the gradients in α of task and budget, and of the weighted one-hot loss.
    fn balanced(&self, own: Vec<Tensor>, one_hot: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let sets = self.supernet.active_sets()?;
        let join = |gradients: Vec<Tensor>| {
            let alphas = self.supernet.all_alphas().into_iter().zip(gradients);
            let defined = alphas.map(|(alpha, gradient)| match gradient.defined() {
                true => Ok(gradient),
                false => alpha.f_zeros_like(),
            });
            let defined = defined.collect::<std::result::Result<Vec<Tensor>, _>>()?;
            sets.join_candidates("alpha", &defined.iter().collect::<Vec<_>>())
        };
        let (own, one_hot) = (join(own)?, join(one_hot)?);
        let sum = match self.options.one_hot.balance {
            Balance::Sum => own.f_add(&one_hot)?,
            Balance::Ramp { ratio } => {
                let progress = self.step as f64 / self.options.search_steps.max(1) as f64;
                let other = sets.candidate_norms(&one_hot)?.f_clamp_min(1e-30)?;
                let scale = sets.candidate_norms(&own)?.f_div(&other)?;
                let scale = sets.for_candidates(&scale.f_mul_scalar(ratio * progress.min(1.0))?)?;
                own.f_add(&one_hot.f_mul(&scale)?)?
            }
        };
        sets.split_candidates(&sum)
    }
}

/// Refuses batches of different sizes, whose gradients would be averaged with equal weight, images
/// that are not floating point or on another device than the network, and targets that do not fit
/// the images.
fn expect_valid(batches: &[Batch], device: Device) -> Result<()> {
    batches.iter().try_for_each(|batch| batch.check(device))?;
    let Some(first) = batches.first().map(Batch::count) else {
        return Err(Error::invalid("number of batches", "at least one", 0));
    };
    if first < 1 {
        return Err(Error::invalid("images of a batch", "at least one", first));
    }
    match batches.iter().map(Batch::count).find(|&other| other != first) {
        None => Ok(()),
        Some(other) => {
            let expected = format!("{first}, as in the first batch of the step");
            Err(Error::invalid("images of a batch", expected, other))
        }
    }
}
