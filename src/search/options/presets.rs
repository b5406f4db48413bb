//! Where options come from: the length of the session, the paper, the two-stage baseline.

use super::{
    AlphaStart, Balance, OneHotOptions, OptimiserOptions, Order, PmimOptions, Precision,
    SearchOptions,
};
use crate::loss::EntropyVarianceLoss;
use crate::mask::{LambdaSchedule, UnitImportance};
use crate::optim::{AdamWOptions, CosineSchedule};
use crate::pmim::{MaskRatioSchedule, WindowNorm};

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
            budget_weight: 1.0,
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
                score_rate: 3.0 / length,
                alpha_rate: 10.0 / length,
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

    /// The paper's setting: random scores and α, gradients added as they are, one rate for all (scores
    /// and α keep it where [`peak_rate`](Self::peak_rate) sets another for the weights). Made for
    /// searches of tens of thousands of steps.
    pub fn paper(total_steps: u64, search_steps: u64) -> Self {
        let mut options = Self::new(total_steps, search_steps);
        options.alpha_start = AlphaStart::Uniform;
        options.importance = UnitImportance::Learned;
        options.start_at_dense = false;
        options.decide_early = true;
        options.landing_steps = 0;
        options.budget_weight = 5.0;
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
        options.optimiser.alpha_rate = 10.0 / rest;
        options
    }
}
