//! Options of one stage, and what the library is told by them.

use crate::layers;
use crate::AnyError;
use once_for_both::search::SearchOptions;
use serde::{Deserialize, Serialize};

/// A stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    pub epochs: Option<f64>,
    /// Optimiser steps, instead of epochs.
    pub steps: Option<u64>,
    pub batch: i64,
    /// Batches of a step.
    #[serde(default = "one")]
    pub accumulate: u64,
    pub lr: f64,
    /// Epochs over which the learning rate rises.
    pub warmup: Option<f64>,
    /// Share of the steps that search; only of the search.
    pub share: Option<f64>,
    /// Whose settings the options differ from; only of the search.
    #[serde(default)]
    pub method: MethodName,
    /// Looks at which candidates can go, in an epoch; only of the search. Twenty a search if not given.
    pub looks: Option<u64>,
    /// Options of the library's `SearchOptions` that are to differ from its defaults.
    #[serde(default)]
    pub options: toml::Table,
}

/// What a search begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodName {
    /// The library's defaults.
    #[default]
    Ours,
    /// The paper's setting.
    Paper,
    /// Importance first, sparsity after.
    TwoStage,
}

impl MethodName {
    /// Its options.
    pub fn options(self, steps: u64, searching: u64) -> SearchOptions {
        match self {
            Self::Ours => SearchOptions::new(steps, searching),
            Self::Paper => SearchOptions::paper(steps, searching),
            Self::TwoStage => SearchOptions::two_stage(steps, searching),
        }
    }
}

/// Options of the search that say how to compute and to train, not how to search.
const OF_TRAINING: [&str; 3] = ["precision", "label_smoothing", "average"];
const OF_ITS_OPTIMISER: [&str; 2] = ["weights", "clip_norm"];
/// Options of the library that the tool sets by itself, and what to say instead.
const OWNED: [(&str, &str); 7] = [
    ("total_steps", "epochs or steps"),
    ("search_steps", "search.share"),
    ("seed", "seed"),
    ("log_interval", "every.log"),
    ("distillation", "[teacher]"),
    ("decide_at_end", "nothing: a run ends with a subnet"),
    ("reach", "nothing: a run has one subnet"),
];

fn one() -> u64 {
    1
}

impl StageConfig {
    /// Optimiser steps; `epoch` is how many make one.
    pub fn steps(&self, name: &str, epoch: u64) -> Result<u64, AnyError> {
        let steps = match (self.epochs, self.steps) {
            (None, Some(steps)) => steps,
            (Some(epochs), None) => (epochs * epoch as f64).round() as u64,
            _ => return Err(format!("{name}: give either epochs or steps").into()),
        };
        match steps {
            0 => Err(format!("{name}: 0 steps are none: give more epochs or steps").into()),
            steps => Ok(steps),
        }
    }

    /// The same stage as plain training: what says how to search is left out.
    pub fn plain(&self) -> Self {
        let pick = |table: &toml::Table, names: &[&str]| -> toml::Table {
            let own = table.iter().filter(|(name, _)| names.contains(&name.as_str()));
            own.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let mut options = pick(&self.options, &OF_TRAINING);
        if let Some(toml::Value::Table(optimiser)) = self.options.get("optimiser") {
            options.insert("optimiser".into(), pick(optimiser, &OF_ITS_OPTIMISER).into());
        }
        let (share, looks, method) = (None, None, MethodName::default());
        Self { share, looks, method, options, ..self.clone() }
    }

    /// The library's options with this stage's own set.
    pub fn apply(
        &self,
        name: &str,
        options: SearchOptions,
        epoch: u64,
    ) -> Result<SearchOptions, AnyError> {
        for (owned, instead) in OWNED {
            if self.options.contains_key(owned) {
                return Err(format!("{name}.options.{owned}: give {instead}").into());
            }
        }
        let mut options = options.peak_rate(self.lr);
        if let Some(epochs) = self.warmup {
            let (warmup, total) = ((epochs * epoch as f64) as u64, options.total_steps);
            if warmup >= total {
                return Err(format!(
                    "{name}.warmup: {epochs} epochs are {warmup} steps, of {total} in all"
                )
                .into());
            }
            options.optimiser.weight_rate.warmup_steps = warmup;
        }
        if let Some(looks) = self.looks {
            options = options.prune_times_an_epoch(looks, epoch);
        }
        let (mut all, under) = (serde_json::to_value(&options)?, format!("{name}.options"));
        layers::overlay(&mut all, serde_json::to_value(&self.options)?, &under)?;
        serde_json::from_value(all).map_err(|error| format!("{under}: {error}").into())
    }
}
