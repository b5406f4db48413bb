//! Options of a run: what config.toml says, checked.

use crate::amount::amount;
use crate::stage_config::StageConfig;
use crate::AnyError;
use clap::ValueEnum;
use once_for_both::components::{Distillation, DistillationKind};
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, VitConfig};
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
