//! Everything a session can be told, with defaults that follow from its length.

use crate::cost::Budget;
use crate::loss::{Distillation, EntropyVarianceLoss};
use crate::mask::{LambdaSchedule, UnitImportance};
use crate::optim::{AdamWOptions, CosineSchedule};
use crate::pmim::{MaskRatioSchedule, WindowNorm};
use crate::{Error, Result};
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
    /// Weight of the budget loss.
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
    /// Defaults for a session of `total_steps` that searches for the first `search_steps`.
    ///
    /// Rates of α and scores follow from the length: Adam moves a parameter by at most about its
    /// rate a step, and a decision has to take the same share of any search.
    pub fn new(total_steps: u64, search_steps: u64) -> Self {
        let warmup = search_steps / 5;
        let length = search_steps.max(1) as f64;
        let peak = 5e-4;
        Self {
            seed: 0,
            total_steps,
            search_steps,
            lambda: LambdaSchedule::paper(warmup),
            pmim: Some(PmimOptions {
                ratio: MaskRatioSchedule::paper(warmup),
                window: WindowNorm::PAPER,
            }),
            one_hot: OneHotOptions {
                weight: 0.5,
                loss: EntropyVarianceLoss { delta: 1e-3, ..EntropyVarianceLoss::paper() },
                balance: Balance::Ramp { ratio: 1.0 },
            },
            budget_weight: 5.0,
            prune_interval: (search_steps / 20).max(1),
            drop_share: 0.2,
            decide_early: false,
            landing_steps: search_steps / 10,
            decide_at_end: true,
            reach: Vec::new(),
            order: Order::Together,
            precision: Precision::Full,
            freeze_weights: false,
            average: None,
            distillation: None,
            skips_in_a_row: 5,
            alpha_start: AlphaStart::Equal,
            importance: UnitImportance::LearnedFromMagnitude { mean: 2.0, std: 0.5 },
            start_at_dense: true,
            label_smoothing: 0.0,
            optimiser: OptimiserOptions {
                weight_rate: CosineSchedule {
                    peak,
                    floor: 0.01,
                    warmup_steps: total_steps / 20,
                    total_steps,
                },
                score_rate: (3.0 / length).max(peak),
                alpha_rate: (10.0 / length).max(peak),
                weights: AdamWOptions::default(),
                alpha: AdamWOptions { beta1: 0.5, ..AdamWOptions::default() },
                clip_norm: Some(1.0),
            },
            log_interval: 10,
        }
    }

    /// Plain training: nothing is searched.
    pub fn training(total_steps: u64) -> Self {
        Self { pmim: None, ..Self::new(total_steps, 0) }
    }

    /// The paper's setting: random scores and α, gradients added as they are, one rate for all.
    /// Made for searches of tens of thousands of steps.
    pub fn paper(total_steps: u64, search_steps: u64) -> Self {
        let mut options = Self::new(total_steps, search_steps);
        options.alpha_start = AlphaStart::Uniform;
        options.importance = UnitImportance::Learned;
        options.start_at_dense = false;
        options.decide_early = true;
        options.landing_steps = 0;
        options.one_hot.balance = Balance::Sum;
        options.one_hot.loss = EntropyVarianceLoss::paper();
        options.optimiser.score_rate = options.optimiser.weight_rate.peak;
        options.optimiser.alpha_rate = options.optimiser.weight_rate.peak;
        options.optimiser.clip_norm = None;
        options
    }

    /// The two-stage baseline: half of the search for importance, half for sparsity.
    pub fn two_stage(total_steps: u64, search_steps: u64) -> Self {
        let mut options = Self::new(total_steps, search_steps);
        let steps = search_steps / 2;
        options.order = Order::ImportanceFirst { steps };
        let rest = (search_steps - steps).max(1) as f64;
        options.optimiser.alpha_rate = (10.0 / rest).max(options.optimiser.weight_rate.peak);
        options
    }

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

    /// Refuses what cannot work, before any step.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the option and both values.
    pub fn check(&self) -> Result<()> {
        if self.search_steps > self.total_steps {
            let expected = format!("at most total_steps {}", self.total_steps);
            return Err(Error::invalid("search_steps", expected, self.search_steps));
        }
        self.lambda.check()?;
        self.importance.check()?;
        self.one_hot.loss.check()?;
        if let Some(pmim) = &self.pmim {
            pmim.ratio.check()?;
            WindowNorm::new(pmim.window)?;
        }
        for (name, value) in [
            ("prune_interval", self.prune_interval),
            ("log_interval", self.log_interval),
            ("skips_in_a_row", self.skips_in_a_row),
        ] {
            if value == 0 {
                return Err(Error::invalid(name, "at least 1", value));
            }
        }
        match self.alpha_start {
            AlphaStart::Even { spread } if !(spread.is_finite() && spread > 0.0) => {
                return Err(Error::invalid("alpha_start.spread", "finite and positive", spread));
            }
            _ => {}
        }
        if !(0.0..1.0).contains(&self.drop_share) {
            return Err(Error::invalid("drop_share", "within [0, 1)", self.drop_share));
        }
        if self.landing_steps > 0 && self.landing_steps >= self.search_steps {
            let expected = format!("below search_steps {}", self.search_steps);
            return Err(Error::invalid("landing_steps", expected, self.landing_steps));
        }
        match self.order {
            Order::ImportanceFirst { steps } if steps >= self.search_steps => {
                let expected = format!("below search_steps {}", self.search_steps);
                return Err(Error::invalid("order.importance_first.steps", expected, steps));
            }
            _ => {}
        }
        if let Some(distillation) = self.distillation {
            distillation.check()?;
        }
        if let Some(decay) = self.average.filter(|decay| !(0.0..1.0).contains(decay)) {
            return Err(Error::invalid("average", "within [0, 1)", decay));
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(Error::invalid("label_smoothing", "within [0, 1)", self.label_smoothing));
        }
        self.check_rates()
    }

    fn check_rates(&self) -> Result<()> {
        let optimiser = &self.optimiser;
        for (name, value) in [
            ("budget_weight", self.budget_weight),
            ("one_hot.weight", self.one_hot.weight),
            ("weight_rate.peak", optimiser.weight_rate.peak),
            ("score_rate", optimiser.score_rate),
            ("alpha_rate", optimiser.alpha_rate),
            ("clip_norm", optimiser.clip_norm.unwrap_or(1.0)),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::invalid(name, "finite and not negative", value));
            }
        }
        Ok(())
    }
}
