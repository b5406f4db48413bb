//! Options of a run: what config.toml says, checked.

use crate::layers;
use crate::AnyError;
use clap::ValueEnum;
use once_for_both::cost::{Budget, Metric};
use once_for_both::loss::{Distillation, DistillationKind};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::SearchOptions;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Options to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// DeiT-S on built-in images: minutes on a CPU.
    Demo,
    /// A small ViT on all of Fashion-MNIST.
    FashionMnist,
    /// DeiT-S on ImageNet, by the paper's schedule.
    Imagenet,
}

impl Preset {
    /// Its options.
    pub fn text(self) -> &'static str {
        match self {
            Self::Demo => include_str!("presets/demo.toml"),
            Self::FashionMnist => include_str!("presets/fashion-mnist.toml"),
            Self::Imagenet => include_str!("presets/imagenet.toml"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What was asked for last; a resumed run goes on with it. None: everything.
    pub command: Option<String>,
    pub seed: u64,
    pub device: String,
    /// Whether the dense network goes on training as long as the subnet, to be compared with.
    pub compare: bool,
    /// Network to begin with, instead of training one.
    pub weights: Option<PathBuf>,
    pub data: DataConfig,
    pub network: NetworkConfig,
    pub budget: BudgetConfig,
    pub teacher: Option<TeacherConfig>,
    pub train: Option<StageConfig>,
    pub search: StageConfig,
    pub finetune: Option<StageConfig>,
    pub every: Intervals,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    pub folder: Option<PathBuf>,
    /// Whether the built-in images do where no folder is given.
    #[serde(default)]
    pub built_in: bool,
    /// Training images to use, from the first; all if not given.
    pub images: Option<i64>,
    /// So many of them are held out and judge instead of the test images: for tuning.
    #[serde(default)]
    pub validation: i64,
    pub augmentation: AugmentationName,
    /// Mean of each channel, in [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, in [0, 1].
    pub std: Vec<f64>,
    /// Threads that decode; all cores if not given. Batches do not depend on it.
    pub workers: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AugmentationName {
    /// None.
    None,
    /// Small images: padding by 2 and crop, flip. Large ones: random resized crop, flip.
    Light,
    /// The recipe of DeiT; for folders of images.
    Deit,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    pub embed_dim: i64,
    pub depth: usize,
    pub heads: i64,
    pub image_size: i64,
    pub patch_size: i64,
    #[serde(default)]
    pub drop_path: f64,
    #[serde(default)]
    pub distilled: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    pub macs: Option<String>,
    pub params: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    pub weights: PathBuf,
    /// τ of soft distillation; hard if not given.
    pub temperature: Option<f64>,
    /// Share of the teacher in the loss.
    #[serde(default = "half")]
    pub share: f64,
}

fn half() -> f64 {
    0.5
}

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
    /// Looks at which cells can go, in an epoch; only of the search. Twenty a search if not given.
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

/// How often something is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervals {
    /// Steps between two logged ones.
    pub log: u64,
    /// Steps between two checkpoints.
    pub checkpoint: u64,
    /// Epochs between two evaluations.
    pub evaluation: u64,
}

impl Config {
    /// The dense network of the configuration.
    pub fn architecture(&self, channels: i64, classes: i64) -> VitConfig {
        let NetworkConfig { embed_dim, depth, heads, image_size, patch_size, .. } = self.network;
        let mut dense = VitConfig::uniform(embed_dim, depth, heads)
            .input(image_size, channels, patch_size)
            .classes(classes);
        dense.drop_path = self.network.drop_path;
        dense.distilled = self.network.distilled;
        dense
    }

    /// What to keep to, for this dense network.
    pub fn budgets(&self, dense: &VitConfig) -> Result<Vec<Budget>, AnyError> {
        let model = dense.cost_model();
        let limit = |metric, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => amount(text)?.budget(metric, dense).map(Some),
        };
        let macs = limit(Metric::Macs, &self.budget.macs)?;
        let params = limit(Metric::Params, &self.budget.params)?;
        let budgets: Vec<Budget> = macs.into_iter().chain(params).collect();
        if budgets.is_empty() {
            return Err("no budget: give --budget, --params, or both".into());
        }
        for budget in &budgets {
            budget.check(&model, &dense.space()?)?;
        }
        Ok(budgets)
    }

    /// How to learn from the teacher.
    pub fn distillation(&self) -> Option<Distillation> {
        self.teacher.as_ref().map(|teacher| Distillation {
            weight: teacher.share,
            kind: match teacher.temperature {
                Some(temperature) => DistillationKind::Soft { temperature },
                None => DistillationKind::Hard,
            },
        })
    }
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

/// A number with a suffix, or a share.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Share(f64),
    Units(f64),
}

impl Amount {
    fn budget(self, metric: Metric, dense: &VitConfig) -> Result<Budget, AnyError> {
        match self {
            Self::Share(share) => Ok(Budget::share(metric, share, &dense.cost_model())?),
            Self::Units(limit) => Ok(Budget { metric, limit }),
        }
    }
}

/// "0.5" is a share; "1.3G", "8M", "250k", "4600000" are amounts.
fn amount(text: &str) -> Result<Amount, AnyError> {
    let (digits, factor) = match text.trim().char_indices().last() {
        Some((at, 'k' | 'K')) => (&text.trim()[..at], 1e3),
        Some((at, 'M')) => (&text.trim()[..at], 1e6),
        Some((at, 'G')) => (&text.trim()[..at], 1e9),
        _ => (text.trim(), 1.0),
    };
    let refused = || format!("budget {text:?}: expected a share such as 0.5, or 250k, 8M, 1.3G");
    match digits.parse::<f64>().map_err(|_| refused())? {
        value if !(value.is_finite() && value > 0.0) => Err(refused().into()),
        share if factor == 1.0 && share <= 1.0 => Ok(Amount::Share(share)),
        units => Ok(Amount::Units(units * factor)),
    }
}
