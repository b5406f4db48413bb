//! What all methods have in common: lengths, rates, batches, teacher.

use crate::settings::with_settings;
use crate::AnyError;
use once_for_both::components::Distillation;
use once_for_both::precision::Precision;
use once_for_both::search::SearchOptions;
use serde::{Deserialize, Serialize};

/// What a row is measured with, besides method, budget and seed: the same for all methods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    pub search_steps: u64,
    pub finetune_steps: u64,
    pub dense_steps: u64,
    /// Images of an optimiser step.
    pub batch: i64,
    /// Peak learning rate of search and fine-tuning.
    pub lr: f64,
    /// Peak learning rate of dense training.
    pub dense_lr: f64,
    /// Weight of the distillation from the dense network, 0 for none; `None` for the defaults of the
    /// crate.
    pub distil: Option<f64>,
    /// Steps of a gate fade-out; `None` for the method's.
    pub fade_out: Option<u64>,
    /// Options of the search, `NAME=VALUE`; of two of one name the last holds.
    pub settings: Vec<String>,
    /// Steps after the sizes are decided at which is measured, besides the end.
    pub curve: Vec<u64>,
    /// Search steps between two timed plain training steps, 0 for none.
    pub plain_interval: u64,
    pub bf16: bool,
    /// Factor of the loss of the network: task, distillation and reconstruction.
    pub loss_scale: f64,
    /// Whether attentions and MLPs may be removed.
    pub depth: bool,
    /// Least width of a hidden layer, as a share of its own; `None` for the least default candidate.
    pub least_hidden: Option<f64>,
    /// Number of the order of the data; `None` for the seed.
    pub order: Option<u64>,
}

impl Protocol {
    /// Checks what no option of the search stands for, and sorts the curve.
    pub fn checked(mut self) -> Result<Self, String> {
        let Self { distil, loss_scale, finetune_steps, .. } = self;
        if let Some(weight) = distil.filter(|weight| !(0.0..=1.0).contains(weight)) {
            return Err(format!("--distil or teacher: got {weight}, expected a weight in [0, 1]"));
        }
        if !(loss_scale > 0.0 && loss_scale.is_finite()) {
            return Err(format!("loss_scale: got {loss_scale}, expected a positive factor"));
        }
        if let Some(share) = self.least_hidden.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(format!("--least-hidden: got {share}, expected a share in [0, 1]"));
        }
        self.curve.sort_unstable();
        self.curve.dedup();
        match self.curve.iter().find(|&&after| after > finetune_steps) {
            Some(after) => Err(format!(
                "--curve: got {after}, expected at most the {finetune_steps} steps of fine-tuning"
            )),
            None => Ok(self),
        }
    }

    /// Steps of search and fine-tuning.
    pub fn total_steps(&self) -> u64 {
        self.search_steps + self.finetune_steps
    }

    pub fn precision(&self) -> Precision {
        match self.bf16 {
            true => Precision::Bf16,
            false => Precision::F32,
        }
    }

    /// Puts rates, precision, teacher and settings over the options of a method.
    pub fn apply(&self, mut own: SearchOptions) -> Result<SearchOptions, AnyError> {
        own.pruning.fade_out_steps = self.fade_out.unwrap_or(own.pruning.fade_out_steps);
        own.training.precision = self.precision();
        own.training.distillation = self.distillation();
        Ok(with_settings(own.peak_rate(self.lr), &self.settings)?)
    }

    /// The teacher of every method: the defaults of the crate are those of `ours`.
    fn distillation(&self) -> Option<Distillation> {
        let Some(weight) = self.distil else {
            let ours = SearchOptions::new(self.total_steps(), self.search_steps);
            return ours.training.distillation;
        };
        let mut dense = Distillation::dense();
        dense.weight = weight;
        (weight > 0.0).then(|| dense.for_finetuning(self.finetune_steps))
    }

    /// Options of dense training.
    pub fn dense_training(&self) -> SearchOptions {
        SearchOptions::training(self.dense_steps).peak_rate(self.dense_lr)
    }
}
