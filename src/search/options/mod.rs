//! Everything a session can be told, with defaults that follow from its length.

mod check;
mod presets;

use crate::cost::Budget;
use crate::loss::{Distillation, EntropyVarianceLoss};
use crate::mask::{LambdaSchedule, UnitImportance};
use crate::optim::{AdamWOptions, CosineSchedule};
use crate::pmim::MaskRatioSchedule;
use serde::{Deserialize, Serialize};

/// Where α starts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlphaStart {
    /// All cells equally probable: only task and budget break the tie.
    Equal,
    /// Uniform in [0, 1), as in the paper.
    Uniform,
    /// Highest at the sizes that, as the same share of every dimension, just keep the budgets:
    /// α = −½·((share − that share)/spread)². Task and budget start from a network that is narrowed
    /// evenly.
    Even {
        /// How far from it cells are still probable, as a share of the dense size.
        spread: f64,
    },
}

/// How strongly the one-hot loss pulls on α, against task and budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Gradients are added as they are (paper). The tangent outweighs the task by far, so in a
    /// short search the starting α decides.
    Sum,
    /// In every dimension the one-hot gradient is scaled to `ratio` × the norm of the gradient
    /// of task and budget; the ratio rises linearly from 0 to this over the search.
    Ramp {
        /// The ratio at the end of the search.
        ratio: f64,
    },
}

/// The adaptive one-hot loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OneHotOptions {
    /// Weight of the loss of every dimension.
    pub weight: f64,
    /// Its terms.
    pub loss: EntropyVarianceLoss,
    /// Its weight against task and budget.
    pub balance: Balance,
}

/// Progressive masked image modeling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PmimOptions {
    /// Share of hidden patch tokens over the search.
    pub ratio: MaskRatioSchedule,
    /// Side of the normalisation window in pixels.
    pub window: i64,
}

/// What the network computes in. θ, scores, α and moments are f32 in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// f32.
    Full,
    /// bf16: weights as materialised, activations and gradients. After the last step the network is
    /// f32 again.
    Bf16,
}

/// What is learned when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Importance and sparsity in one stage (the paper).
    Together,
    /// Two stages, as in the methods the paper is against: importance alone (λ = 1, α waits) for
    /// so many steps, then sparsity (scores wait, λ follows its schedule).
    ImportanceFirst {
        /// Steps of the first stage.
        steps: u64,
    },
}

/// Learning rates and AdamW groups.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OptimiserOptions {
    /// Learning rate of weights and reconstruction.
    pub weight_rate: CosineSchedule,
    /// Learning rate of the scores.
    pub score_rate: f64,
    /// Learning rate of α.
    pub alpha_rate: f64,
    /// AdamW of weights, reconstruction and scores.
    pub weights: AdamWOptions,
    /// AdamW of α.
    pub alpha: AdamWOptions,
    /// Largest norm of the gradient of all weights together.
    pub clip_norm: Option<f64>,
}

/// Options of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchOptions {
    /// Seed of everything random.
    pub seed: u64,
    /// Optimiser steps in all.
    pub total_steps: u64,
    /// Steps by whose end every dimension is decided; the rest is fine-tuning. 0: no search.
    pub search_steps: u64,
    /// Weight of importance in the bi-mask.
    pub lambda: LambdaSchedule,
    /// Masked image modeling during the search, or none.
    pub pmim: Option<PmimOptions>,
    /// The one-hot loss.
    pub one_hot: OneHotOptions,
    /// Weight of the budget loss. The more, the sooner the expected cost is that of the budget, and
    /// the less the task has to say on the way (5 in the paper, whose searches are long).
    pub budget_weight: f64,
    /// Steps between two looks at which cells can go.
    pub prune_interval: u64,
    /// A cell goes when its probability falls to this share of the mean.
    pub drop_share: f64,
    /// Whether a dimension may lose its second cell before the search ends. If not, every
    /// dimension keeps two until projection decides them together, so that there is always a
    /// choice close to the budget.
    pub decide_early: bool,
    /// Steps over which the gates of leaving units go to zero before they are cut; 0 cuts at once.
    pub landing_steps: u64,
    /// Whether projection ends the search after `search_steps`. If not, it goes on until
    /// [`Session::branch`](super::Session::branch) takes subnets out of it.
    pub decide_at_end: bool,
    /// Other budgets that have to stay possible, for subnets to be taken out of the same search.
    pub reach: Vec<Budget>,
    /// What is learned when.
    pub order: Order,
    /// What the network computes in.
    pub precision: Precision,
    /// Whether the weights stay what they are while scores and α are learned.
    pub freeze_weights: bool,
    /// Decay of an exponential moving average of weights and scores, if there is to be one.
    pub average: Option<f64>,
    /// Learning from the method's teacher.
    pub distillation: Option<Distillation>,
    /// Steps with a non-finite gradient in a row, at most; each is skipped.
    pub skips_in_a_row: u64,
    /// Where α starts.
    pub alpha_start: AlphaStart,
    /// Where scores come from.
    pub importance: UnitImportance,
    /// Whether θ is divided by the first gates, so that the search starts at the given network.
    pub start_at_dense: bool,
    /// Label smoothing of the task loss.
    pub label_smoothing: f64,
    /// Learning rates and AdamW groups.
    pub optimiser: OptimiserOptions,
    /// Steps between two `Event::Step`s, which read from the device.
    pub log_interval: u64,
}

impl SearchOptions {
    /// λ of a step.
    pub fn lambda_at(&self, step: u64) -> f64 {
        match self.order {
            Order::Together => self.lambda.at(step),
            Order::ImportanceFirst { steps } if step < steps => 1.0,
            Order::ImportanceFirst { steps } => self.lambda.at(step - steps),
        }
    }

    /// Looks at the cells so many times an epoch (three in the paper).
    pub fn prune_times_an_epoch(mut self, times: u64, steps_per_epoch: u64) -> Self {
        self.prune_interval = (steps_per_epoch / times.max(1)).max(1);
        self
    }

    /// Sets the highest learning rate of the weights.
    pub fn peak_rate(mut self, rate: f64) -> Self {
        self.optimiser.weight_rate.peak = rate;
        self
    }

    /// Sets the seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}
