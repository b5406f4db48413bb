//! Options of one stage, and the options of the library that follow from them.

use super::overlay::{expect_free, overlaid};
use super::Settings;
use crate::components::{ComponentIds, Components};
use crate::error::PipelineError;
use crate::range::{Range, INTERVAL, POSITIVE_SHARE, RATE};
use crate::search::SearchOptions;
use crate::{typed, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Length of a stage in epochs.
const LENGTH: Range<f64> = Range::above(0.0, 1e6);
const BATCH: Range<i64> = Range::closed(1, 1 << 20);
const ACCUMULATE: Range<u64> = Range::closed(1, 1 << 12);

/// One stage of a run: sections `[train]`, `[search]` and `[finetune]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// Length in epochs.
    pub epochs: Option<f64>,
    /// Length in optimiser steps, instead of epochs.
    pub steps: Option<u64>,
    /// Images of a batch.
    pub batch: i64,
    /// Batches of an optimiser step.
    #[serde(default = "one")]
    pub accumulate: u64,
    /// Peak learning rate of the weights.
    pub lr: f64,
    /// Epochs over which the learning rate rises. Default: a twentieth of the stage.
    pub warmup: Option<f64>,
    /// Share of the steps that search; the rest fine-tunes. Search only. Default: 0.6.
    pub share: Option<f64>,
    /// Preset of options and components. Search only.
    #[serde(default)]
    pub method: Recipe,
    /// Prune steps an epoch. Search only. Default: that of the method, ten or twenty in the whole search.
    pub prune_steps_per_epoch: Option<u64>,
    /// Fields of [`SearchOptions`] that differ from the preset.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub options: Settings,
    /// Components that differ from the preset, by name and parameters:
    /// `importance = { name = "taylor", momentum = 0.9 }`. Search only.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub components: Settings,
}

/// Preset of options and components of a search.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// The library's defaults.
    #[default]
    Ours,
    /// α learned through the bi-mask, with masked image modeling, at rates for any length.
    Learned,
    /// The paper's setting.
    Paper,
    /// Importance first, sparsity after.
    TwoStage,
}

impl Recipe {
    /// Returns its options for so many optimiser steps, of which the first `search_steps` search.
    pub fn options(self, steps: u64, search_steps: u64) -> SearchOptions {
        match self {
            Self::Ours => SearchOptions::new(steps, search_steps),
            Self::Learned => SearchOptions::learned(steps, search_steps),
            Self::Paper => SearchOptions::paper(steps, search_steps),
            Self::TwoStage => SearchOptions::two_stage(steps, search_steps),
        }
    }

    /// Returns its components.
    pub fn components(self) -> Components {
        match self {
            Self::Ours | Self::Learned | Self::TwoStage => Components::default(),
            Self::Paper => Components::paper(),
        }
    }
}

/// Options of a search that plain training beside it shares.
const OF_TRAINING: [(&str, &[&str]); 2] = [
    ("training", &["precision", "exchange", "label_smoothing", "ema_decay"]),
    ("optimiser", &["weights", "clip_norm"]),
];

/// Options of the library that follow from other options of the run, with what to set instead.
const OWNED: [(&str, &str); 7] = [
    ("total_steps", "epochs or steps"),
    ("search_steps", "search.share"),
    ("seed", "seed"),
    ("log_interval", "every.log"),
    ("training.accumulate", "accumulate"),
    ("budget.decide_at_end", "nothing: a run ends with a subnet"),
    ("budget.keep_feasible", "nothing: a run has one subnet"),
];

fn one() -> u64 {
    1
}

impl StageConfig {
    /// Checks the range of every option of the section `name`; those in `options` are checked with
    /// the options of the library.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let of = |field: &str| format!("{name}.{field}");
        fn given<T: Copy>(value: Option<T>, check: impl FnOnce(T) -> Result<()>) -> Result<()> {
            value.map_or(Ok(()), check)
        }
        given(self.epochs, |epochs| LENGTH.check(of("epochs"), epochs))?;
        given(self.steps, |steps| INTERVAL.check(of("steps"), steps))?;
        BATCH.check(of("batch"), self.batch)?;
        ACCUMULATE.check(of("accumulate"), self.accumulate)?;
        RATE.check(of("lr"), self.lr)?;
        given(self.warmup, |epochs| RATE.check(of("warmup"), epochs))?;
        given(self.share, |share| POSITIVE_SHARE.check(of("share"), share))?;
        given(self.prune_steps_per_epoch, |steps| {
            INTERVAL.check(of("prune_steps_per_epoch"), steps)
        })
    }

    /// Refuses options of a search in the section `name` of plain training, where they have no effect.
    pub(super) fn expect_no_search(&self, name: &str) -> Result<()> {
        let share = self.share.map(|share| share.to_string());
        let prune_steps = self.prune_steps_per_epoch.map(|steps| steps.to_string());
        let method = (self.method != Recipe::default()).then(|| "a preset of a search".to_string());
        let components = (!self.components.is_empty()).then(|| "some".to_string());
        for (field, given) in [
            ("share", share),
            ("prune_steps_per_epoch", prune_steps),
            ("method", method),
            ("components", components),
        ] {
            if let Some(given) = given {
                let expected = format!("none: only a search has it; set search.{field}");
                return Err(Error::invalid(format!("{name}.{field}"), expected, given));
            }
        }
        Ok(())
    }

    /// Returns the optimiser steps, of which `epoch` are an epoch.
    pub(super) fn optimiser_steps(&self, name: &str, epoch: u64) -> Result<u64> {
        let steps = match (self.epochs, self.steps) {
            (None, Some(steps)) => steps,
            (Some(epochs), None) => (epochs * epoch as f64).round() as u64,
            (epochs, _) => {
                let given = if epochs.is_some() { "both" } else { "none" };
                return Err(Error::invalid(name, "either epochs or steps", given));
            }
        };
        match self.epochs {
            Some(epochs) if steps == 0 => {
                let expected = format!("enough for a step: an epoch has {epoch}");
                Err(Error::invalid(format!("{name}.epochs"), expected, epochs))
            }
            _ => Ok(steps),
        }
    }

    /// Returns the same stage as plain training: options of the search are left out.
    pub(super) fn plain(&self) -> Self {
        let mut options = Settings::new();
        for (group, names) in OF_TRAINING {
            let Some(Value::Object(given)) = self.options.get(group) else { continue };
            let own = given.iter().filter(|(name, _)| names.contains(&name.as_str()));
            let own: Settings = own.map(|(name, value)| (name.clone(), value.clone())).collect();
            options.insert(group.into(), own.into());
        }
        Self {
            share: None,
            prune_steps_per_epoch: None,
            method: Recipe::default(),
            components: Settings::new(),
            options,
            ..self.clone()
        }
    }

    /// Returns the library's options with those of this stage.
    pub(super) fn apply(
        &self,
        name: &str,
        options: SearchOptions,
        epoch: u64,
    ) -> Result<SearchOptions> {
        let under = format!("{name}.options");
        expect_free(&self.options, &OWNED, &under)?;
        let mut options = options.peak_rate(self.lr);
        options.training.accumulate = self.accumulate;
        if let Some(epochs) = self.warmup {
            let (warmup, total) = ((epochs * epoch as f64) as u64, options.total_steps);
            if warmup >= total {
                let expected = format!("less than the {total} steps of the stage");
                let actual = format!("{epochs} epochs, {warmup} steps");
                return Err(Error::invalid(format!("{name}.warmup"), expected, actual));
            }
            options.optimiser.weight_rate.warmup_steps = warmup;
        }
        if let Some(prune_steps) = self.prune_steps_per_epoch {
            options = options.prune_steps_per_epoch(prune_steps, epoch);
        }
        overlaid(&options, &self.options, &under)
    }

    /// Returns the components of the search.
    pub(super) fn search_components(&self) -> Result<Components> {
        let preset = self.method.components();
        if self.components.is_empty() {
            return Ok(preset);
        }
        let under = "search.components";
        let mut ids = serde_json::to_value(preset.ids())
            .map_err(|error| PipelineError::options(under, error))?;
        for (component, own) in &self.components {
            let name = format!("{under}.{component}");
            let known = ids.as_object().map(|ids| ids.keys().cloned().collect::<Vec<_>>());
            let Some(Value::Object(id)) = ids.get_mut(component) else {
                return Err(Error::unknown("option", name, &known.unwrap_or_default()));
            };
            let Value::Object(own) = own else {
                let expected = "a table, such as { name = \"taylor\", momentum = 0.9 }";
                return Err(Error::invalid(name, expected, own));
            };
            id.extend(own.clone());
        }
        let ids: ComponentIds =
            typed::from_value(ids).map_err(|fault| PipelineError::field(under, &fault))?;
        if ids.task != preset.ids().task {
            // Training, comparison, forecast and judgement of a run classify.
            let name = format!("{under}.task");
            let expected = format!(
                "{}; search other tasks with the library (Search::of(…).task(…))",
                preset.ids().task
            );
            return Err(Error::invalid(name, expected, &ids.task));
        }
        let components = Components::from_partial(&ids)?;
        self.expect_parameters(&components)?;
        Ok(components)
    }

    /// Refuses parameters that a component does not have.
    fn expect_parameters(&self, components: &Components) -> Result<()> {
        let ids = serde_json::to_value(components.ids())
            .map_err(|error| PipelineError::options("search.components", error))?;
        for (component, own) in &self.components {
            let id = ids[component].as_object();
            let (Value::Object(own), Some(id)) = (own, id) else { continue };
            if let Some(name) = own.keys().find(|name| !id.contains_key(*name)) {
                let name = format!("search.components.{component}.{name}");
                return Err(Error::unknown("option", name, id.keys()));
            }
        }
        Ok(())
    }
}
