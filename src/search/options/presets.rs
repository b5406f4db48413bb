//! Presets: the defaults, plain training, the paper's setting, the two-stage baseline.

use super::{
    AlphaInit, Balance, BudgetOptions, Decisions, InitOptions, OneHotOptions, OptimiserOptions,
    PmimOptions, PruningOptions, SearchOptions, Stages, TrainingOptions,
};
use crate::components::Distillation;
use crate::optim::AdamWOptions;
use crate::precision::Precision;
use crate::schedule::{CosineSchedule, LinearRamp};

impl SearchOptions {
    /// Defaults for `total_steps` optimiser steps of which the first `search_steps` search: sizes are
    /// decided by the estimated rise of the loss ([`Decisions::Estimated`]) in rounds, one every tenth
    /// of the search, and the dense network teaches ([`Distillation::dense`]).
    ///
    /// Gates are the importance alone (λ = 1), and there is no masked image modeling: see
    /// [`learned`](Self::learned) for the paper's way to decide.
    pub fn new(total_steps: u64, search_steps: u64) -> Self {
        Self::learned(total_steps, search_steps).with(|options| {
            options.decisions = Decisions::Estimated;
            options.lambda = LinearRamp::new(1.0, 1.0, 0);
            options.pmim = None;
            options.pruning.interval = (search_steps / 10).max(1);
            let finetuning = total_steps.saturating_sub(search_steps);
            options.training.distillation = Some(Distillation::dense().for_finetuning(finetuning));
        })
    }

    /// Sizes decided by α, learned from the task loss through the bi-mask, with masked image modeling
    /// (paper sections 3.2 to 3.4), at rates for searches of any length.
    ///
    /// The learning rates of α and scores follow from the length: Adam moves a parameter by at most
    /// about its rate a step, and a decision should take the same share of any search.
    pub fn learned(total_steps: u64, search_steps: u64) -> Self {
        let warmup = search_steps / 5;
        let length = search_steps.max(1) as f64;
        Self {
            seed: 0,
            total_steps,
            search_steps,
            stages: Stages::One,
            decisions: Decisions::Learned,
            init: InitOptions { alpha: AlphaInit::Equal, preserve_dense: true },
            lambda: LinearRamp::new(0.99, 0.1, warmup),
            one_hot: OneHotOptions { weight: 0.5, balance: Balance::Ramp { ratio: 1.0 } },
            pmim: Some(PmimOptions::new(LinearRamp::new(0.05, 0.25, warmup))),
            budget: BudgetOptions { weight: 1.0, decide_at_end: true, keep_feasible: Vec::new() },
            pruning: PruningOptions {
                interval: (search_steps / 20).max(1),
                drop_share: 0.2,
                head_factor: 5.0,
                hidden_factor: 3.0,
                head_shrinkage: 0.5,
                decide_early: false,
                fade_out_steps: search_steps / 10,
            },
            optimiser: OptimiserOptions {
                weight_rate: CosineSchedule {
                    peak: 5e-4,
                    floor: 0.01,
                    warmup_steps: total_steps / 20,
                    total_steps,
                },
                score_rate: Some(3.0 / length),
                alpha_rate: Some(10.0 / length),
                weights: AdamWOptions::default(),
                alpha: AdamWOptions { beta1: 0.5, ..AdamWOptions::default() },
                clip_norm: Some(1.0),
            },
            training: TrainingOptions {
                accumulate: 1,
                precision: Precision::F32,
                exchange: Precision::F32,
                label_smoothing: 0.0,
                distillation: None,
                ema_decay: None,
                freeze_weights: false,
                max_skipped_in_a_row: 5,
            },
            log_interval: 10,
        }
    }

    /// Plain training for `total_steps` optimiser steps.
    pub fn training(total_steps: u64) -> Self {
        Self::learned(total_steps, 0).with(|options| options.pmim = None)
    }

    /// The paper's setting: uniform α, gradients summed as they are, one learning rate for weights,
    /// scores and α.
    ///
    /// It is made for searches of tens of thousands of steps, and goes with
    /// [`Components::paper`](crate::components::Components::paper). The length of an epoch is not known here: the paper's three
    /// prune steps an epoch are `prune_steps_per_epoch(3, steps_per_epoch)`.
    pub fn paper(total_steps: u64, search_steps: u64) -> Self {
        Self::learned(total_steps, search_steps).with(|options| {
            options.init = InitOptions { alpha: AlphaInit::Uniform, preserve_dense: false };
            options.one_hot.balance = Balance::Sum;
            options.pmim = options.pmim.map(|pmim| PmimOptions::paper(pmim.mask_ratio));
            options.budget.weight = 5.0;
            options.pruning.decide_early = true;
            options.pruning.fade_out_steps = 0;
            options.optimiser.score_rate = None;
            options.optimiser.alpha_rate = None;
            options.optimiser.clip_norm = None;
        })
    }

    /// The two-stage baseline: half of the search for importance, half for sparsity.
    pub fn two_stage(total_steps: u64, search_steps: u64) -> Self {
        let importance_steps = search_steps / 2;
        let sparsity_steps = (search_steps - importance_steps).max(1) as f64;
        Self::learned(total_steps, search_steps).with(|options| {
            options.stages = Stages::Two { importance_steps };
            options.optimiser.alpha_rate = Some(10.0 / sparsity_steps);
        })
    }
}
