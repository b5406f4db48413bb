//! Options of a search, in groups; the defaults follow from its length.

mod check;
mod presets;

use crate::components::Distillation;
use crate::cost::Budget;
use crate::optim::AdamWOptions;
use crate::precision::Precision;
use crate::schedule::{CosineSchedule, LinearRamp};
use serde::{Deserialize, Serialize};

/// Options of a search, or of plain training.
///
/// Start from [`new`](Self::new), [`learned`](Self::learned), [`paper`](Self::paper),
/// [`two_stage`](Self::two_stage) or [`training`](Self::training), and change fields:
///
/// ```
/// use once_for_both::search::SearchOptions;
///
/// let options = SearchOptions::new(500, 300).with(|options| {
///     options.seed = 3;
///     options.pruning.fade_out_steps = 20;
/// });
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchOptions {
    /// Seed of everything random. Default 0.
    pub seed: u64,
    /// Optimiser steps in all.
    pub total_steps: u64,
    /// Optimiser steps by whose end every dimension is decided; the rest is fine-tuning. 0: plain
    /// training.
    pub search_steps: u64,
    /// One stage or two. Default [`Stages::One`] (paper).
    pub stages: Stages,
    /// What sizes are decided by. Default [`Decisions::Estimated`]; paper: [`Decisions::Learned`].
    pub decisions: Decisions,
    /// Initial values of α and θ.
    pub init: InitOptions,
    /// λ, the weight of importance in the bi-mask. Default 1; [`learned`](Self::learned): 0.99 → 0.1
    /// over a fifth of the search (paper section 3.2).
    pub lambda: LinearRamp,
    /// Weight of the adaptive one-hot loss.
    pub one_hot: OneHotOptions,
    /// Masked image modeling during the search. Default none; [`learned`](Self::learned) and paper:
    /// some.
    pub pmim: Option<PmimOptions>,
    /// Budget loss and decisions under the budget.
    pub budget: BudgetOptions,
    /// Dropping candidates and pruning units.
    pub pruning: PruningOptions,
    /// Learning rates and AdamW.
    pub optimiser: OptimiserOptions,
    /// Task loss, precision and what else a plain training has.
    pub training: TrainingOptions,
    /// Optimiser steps between two logged steps, which read from the device. Default 10.
    pub log_interval: u64,
}

/// Whether importance and sparsity are learned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stages {
    /// Scores and α are learned together (paper).
    One,
    /// Scores alone with λ = 1, then α alone with λ on its schedule: the two-stage baseline. An
    /// importance that is computed from weights or gradients is not updated in the second stage.
    Two {
        /// Optimiser steps of the first stage.
        importance_steps: u64,
    },
}

/// What sizes are decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decisions {
    /// α, learned by gradient descent from the task loss through the gates, the budget loss and the
    /// one-hot loss (paper sections 3.2 and 3.3); improbable candidates are dropped, and projection
    /// maximises Σ ln p.
    Learned,
    /// The estimated rise of the loss: at every prune step α is set to −L, where L of a candidate is
    /// ½·B·E\[(Σ e)²\] with e the first-order effects of pruning the units that it does not keep (Fisher information, over
    /// the last 60 steps of B images), and projection onto limits that fall from the dense cost to the
    /// budgets drops the candidates larger than its choice. Budget and one-hot loss do not act on α, and
    /// V is not needed: use λ = 1 ([`SearchOptions::new`]).
    Estimated,
}

/// Initial values of α and θ. Initial scores are the importance component's.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InitOptions {
    /// Initial α. Default [`AlphaInit::Equal`]; paper: [`AlphaInit::Uniform`].
    pub alpha: AlphaInit,
    /// Whether θ is divided by the initial gates, so that the search starts from the given
    /// network's function. Default true; paper: false.
    pub preserve_dense: bool,
}

/// Initial candidate logits α.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlphaInit {
    /// All candidates equally probable.
    Equal,
    /// Uniform in [0, 1) (paper).
    Uniform,
    /// α = −½·(distance/spread)², with r* the largest share of the dense units that, applied to every dimension, meets all
    /// budgets. A flat candidate with the share r of the dense width has the distance |r − r*|. One of an attention with
    /// several heads, with the shares h of the heads and c of the channels of a head, has √((h − √r*)² + (c − √r*)²):
    /// both are to fall by the same factor.
    Even {
        /// Width of the peak, as a share of the dense width, or of heads and channels.
        spread: f64,
    },
}

/// Weight of the adaptive one-hot loss. Its formula is the component's.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OneHotOptions {
    /// Weight of the loss of every dimension. Default 0.5 (paper).
    pub weight: f64,
    /// How its gradient joins that of task and budget. Default [`Balance::Ramp`] to 1; paper:
    /// [`Balance::Sum`].
    pub balance: Balance,
}

/// How the one-hot loss's gradient in α joins the gradient of task and budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Plain sum (paper). In a short search the tangent term outweighs the task by orders of
    /// magnitude.
    Sum,
    /// In every dimension the one-hot gradient is scaled to `ratio` × the norm of the gradient of
    /// task and budget; the ratio rises linearly from 0 over the search.
    Ramp {
        /// Ratio at the end of the search.
        ratio: f64,
    },
}

/// Schedule of masked image modeling. Its target and loss are the component's.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PmimOptions {
    /// Share of the images of a batch whose tokens are masked, in (0, 1]; below 1 with
    /// [`PmimReach::Weights`], where one image at least stays whole. Default 0.25; paper: 1.
    #[serde(default = "one")]
    pub images: f64,
    /// Whether the gradient of these images reaches scores and α. Default [`PmimReach::Weights`];
    /// paper: [`PmimReach::All`].
    #[serde(default)]
    pub reach: PmimReach,
    /// γ, the share of masked patch tokens. Default 0.05 → 0.25 over a fifth of the search (paper
    /// section 3.4).
    pub mask_ratio: LinearRamp,
}

/// What the gradient of images with masked tokens reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PmimReach {
    /// Weights and decoder only: which units stay is decided on images that are seen whole.
    Weights,
    /// Weights, decoder, scores and α (paper).
    #[default]
    All,
}

impl PmimOptions {
    /// Masked image modeling with this schedule of the mask ratio, on a quarter of the images, for the
    /// weights only.
    pub fn new(mask_ratio: LinearRamp) -> Self {
        Self { images: 0.25, reach: PmimReach::Weights, mask_ratio }
    }

    /// The paper's: on all images, and for scores and α too.
    pub fn paper(mask_ratio: LinearRamp) -> Self {
        Self { images: 1.0, reach: PmimReach::All, mask_ratio }
    }
}

/// Share of masked images, and factor of heads, before they were options.
fn one() -> f64 {
    1.0
}

/// Budget loss and decisions under the budget.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetOptions {
    /// w in w·((F(α) − F*)/F_0)². Default 1; paper: 5.
    pub weight: f64,
    /// Whether the search ends by projection onto the budgets. If false, it stays undecided until
    /// [`Search::branch`](super::Search::branch) takes subnets out of it. Default true.
    pub decide_at_end: bool,
    /// Further budgets that dropping candidates must keep feasible, for branches. Default none.
    pub keep_feasible: Vec<Budget>,
}

/// Dropping candidates and pruning units.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PruningOptions {
    /// Optimiser steps between two prune steps. Default a tenth of the search; [`learned`](SearchOptions::learned) and
    /// [`paper`](SearchOptions::paper): a twentieth. The paper has three prune steps an epoch:
    /// [`prune_steps_per_epoch`](SearchOptions::prune_steps_per_epoch) sets them.
    pub interval: u64,
    /// A candidate is dropped when its probability is at most this share of the mean 1/n
    /// ([`Decisions::Learned`] alone). Default 0.2 (paper).
    pub drop_share: f64,
    /// Whether a dimension may be decided before the search ends ([`Decisions::Learned`] alone). If false, two candidates
    /// stay in every dimension until projection decides all together. Default false; paper: true.
    pub decide_early: bool,
    /// Factor on the estimated rise of the loss of candidates with fewer heads, and of a removed branch ([`Decisions::Estimated`]):
    /// a pruned head is recovered less than pruned channels. Default 5.
    #[serde(default = "one")]
    pub head_factor: f64,
    /// Factor on the estimated rise of the loss of narrower hidden layers ([`Decisions::Estimated`]): the effect of many neurons
    /// together is more than their first-order effects. Default 3.
    #[serde(default = "one")]
    pub hidden_factor: f64,
    /// Share s in \[0, 1\] by which the estimated loss of n pruned heads, where it is less than n times the mean L̄ of single
    /// heads, is raised towards that: L + s·max(0, n·L̄ − L(heads)) ([`Decisions::Estimated`]). A head that is little used now
    /// would do more once others are pruned. Default 0.5.
    #[serde(default)]
    pub head_shrinkage: f64,
    /// Optimiser steps over which gates fade out before their units are pruned; 0 prunes at once.
    /// Default a tenth of the search; paper: 0.
    pub fade_out_steps: u64,
}

/// Learning rates and AdamW.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OptimiserOptions {
    /// Learning rate of the weights and of PMIM's decoder. Default peak 5e-4; paper: 2.5e-4 ×
    /// batch/256.
    pub weight_rate: CosineSchedule,
    /// Learning rate of the scores. Default 3 / search steps: Adam moves a parameter by at most its
    /// rate a step. `None`: that of the weights in the same step, as in the paper.
    pub score_rate: Option<f64>,
    /// Learning rate of α. Default 10 / search steps. `None`: that of the weights in the same step, as in the paper.
    pub alpha_rate: Option<f64>,
    /// AdamW of weights, decoder and scores. Default β = (0.9, 0.999), decay 1e-3.
    pub weights: AdamWOptions,
    /// AdamW of α. Default β = (0.5, 0.999), decay 1e-3 (paper).
    pub alpha: AdamWOptions,
    /// Largest norm of the gradient of all weights together. Default 1; paper: none.
    pub clip_norm: Option<f64>,
}

/// What a search shares with plain training.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainingOptions {
    /// Batches whose gradients are averaged in an optimiser step, where the search takes them from
    /// a [`BatchSource`](crate::batch::BatchSource). Default 1.
    pub accumulate: u64,
    /// Precision of weights as materialised, activations and gradients: f32 or bf16. θ, scores, α
    /// and moments are f32 in either case. Default f32.
    pub precision: Precision,
    /// Precision that gradients are summed over processes in, f32 or bf16, which is half of the bytes
    /// ([`distributed`](crate::distributed)). Each process's gradient is rounded, and every sum of two.
    /// Default f32.
    #[serde(default)]
    pub exchange: Precision,
    /// Label smoothing of the task loss, in [0, 1). Default 0.
    pub label_smoothing: f64,
    /// Distillation, from the dense network or from the teacher component. Default
    /// [`Distillation::dense`]; [`learned`](SearchOptions::learned), paper and plain training: none.
    pub distillation: Option<Distillation>,
    /// Decay of an EMA of weights and scores, which is evaluated and extracted in their place.
    /// Default none.
    pub ema_decay: Option<f64>,
    /// Whether the weights are frozen while scores and α are learned; fine-tuning trains them. Not in plain training.
    /// Default false.
    pub freeze_weights: bool,
    /// Skipped steps in a row, each with a loss or gradient that is not finite, after which
    /// training counts as diverged. Default 5.
    pub max_skipped_in_a_row: u64,
}

impl SearchOptions {
    /// Changes options in place: `SearchOptions::new(500, 300).with(|options| options.pmim = None)`.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Sets the seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the peak learning rate of the weights.
    pub fn peak_rate(mut self, rate: f64) -> Self {
        self.optimiser.weight_rate.peak = rate;
        self
    }

    /// Sets so many prune steps an epoch (three in the paper).
    pub fn prune_steps_per_epoch(mut self, prune_steps: u64, steps_per_epoch: u64) -> Self {
        self.pruning.interval = (steps_per_epoch / prune_steps.max(1)).max(1);
        self
    }

    /// Returns λ of a step.
    pub fn lambda_at(&self, step: u64) -> f64 {
        match self.stages {
            Stages::One => self.lambda.at(step),
            Stages::Two { importance_steps } if step < importance_steps => 1.0,
            Stages::Two { importance_steps } => self.lambda.at(step - importance_steps),
        }
    }
}
