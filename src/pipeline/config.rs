//! Configuration of a run, as `config.toml` has it.

use super::{DataConfig, ImportConfig, LatencyConfig, Settings, SpaceConfig, StageConfig};
use crate::components::{Distillation, DistillationKind};
use crate::cost::{Budget, CostLimit, CostModel, Limit, Metric};
use crate::error::PipelineError;
use crate::latency::LatencyModel;
use crate::models::Architecture;
use crate::range::{check_all, Range, INTERVAL, SHARE};
use crate::{typed, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const TEMPERATURE: Range<f64> = Range::closed(1e-3, 1e6);

/// Part of a run that is run on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Training of the dense network.
    Train,
    /// Search of a trained network.
    Search,
    /// Fine-tuning of the subnet.
    Finetune,
}

impl Command {
    /// Returns the sections of [`Config`] that describe the stages of a command; `None` runs all.
    pub fn sections(command: Option<Self>) -> &'static [&'static str] {
        match command {
            Some(Self::Train) => &["train"],
            Some(Self::Search) => &["search"],
            Some(Self::Finetune) => &["finetune"],
            None => &["train", "search", "finetune"],
        }
    }
}

/// Configuration of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Part that was run last, which a resumed run continues; `None`: all stages.
    pub command: Option<Command>,
    /// Seed of everything random.
    pub seed: u64,
    /// `cpu`, `cuda`, `cuda:N` or `auto`.
    pub device: String,
    /// Whether the dense network is trained for as many steps as the search has, for comparison.
    pub compare: bool,
    /// Network to start from, instead of training one: a run folder, an artifact or a checkpoint.
    /// [`Request`](super::Request) takes `hub:OWNER/NAME`, too, and puts the path in the cache here.
    pub weights: Option<PathBuf>,
    /// How `weights` are read, if they are a checkpoint of another library.
    #[serde(default, skip_serializing_if = "ImportConfig::is_default")]
    pub import: ImportConfig,
    /// Images.
    pub data: DataConfig,
    /// Description of the dense network. [`NetworkConfig`](super::NetworkConfig) reads that of a
    /// ViT or Swin, [`network_as`](Self::network_as) that of a family of your own, with its own fields.
    pub network: Settings,
    /// Budgets of the search.
    pub budget: BudgetConfig,
    /// Search space: what may be removed, and candidate sizes.
    #[serde(default, skip_serializing_if = "SpaceConfig::is_default")]
    pub space: SpaceConfig,
    /// Measurement of the latency, where it is limited.
    #[serde(default, skip_serializing_if = "LatencyConfig::is_default")]
    pub latency: LatencyConfig,
    /// Distillation teacher of all stages.
    pub teacher: Option<TeacherConfig>,
    /// Training of the dense network.
    pub train: Option<StageConfig>,
    /// Search, and the fine-tuning steps that follow it in the same stage.
    pub search: StageConfig,
    /// Fine-tuning of the extracted subnet.
    pub finetune: Option<StageConfig>,
    /// Intervals of logs, checkpoints and evaluations.
    pub every: Intervals,
}

/// Budgets of the search; all that are given hold together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    /// Limit of the MACs: a share of the dense network's (`"0.5"`) or an amount (`"1.3G"`).
    pub macs: Option<String>,
    /// Limit of the parameters: a share or an amount (`"8M"`).
    pub params: Option<String>,
    /// Limit of the latency: a share of the dense network's (`"0.6"`) or milliseconds of a batch
    /// (`"12ms"`).
    pub latency: Option<String>,
}

/// Distillation teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// A run folder, an artifact, or a checkpoint of a ViT or Swin. What no tensor of a
    /// checkpoint shows is read from the `config.json` beside it.
    pub weights: PathBuf,
    /// Temperature τ of soft distillation; hard distillation if not given.
    pub temperature: Option<f64>,
    /// Weight of the distillation loss, in [0, 1].
    #[serde(default = "half")]
    pub share: f64,
    /// Keys that lead to the state dict of a checkpoint, joined by dots; `None`: an EMA if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Prefix of the network's names in a checkpoint; tensors without it are left out. `None`: the one that all names share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Attention heads of a ViT in a checkpoint; if not given, those of `config.json`, or of published networks of
    /// its sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<i64>,
}

impl TeacherConfig {
    /// A network that distils its predicted classes, with weight 0.5.
    pub fn new(weights: impl Into<PathBuf>) -> Self {
        let weights = weights.into();
        Self { weights, temperature: None, share: half(), entry: None, prefix: None, heads: None }
    }
}

fn half() -> f64 {
    0.5
}

/// Intervals of logs, checkpoints and evaluations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervals {
    /// Optimiser steps between two logged steps.
    pub log: u64,
    /// Optimiser steps between two checkpoints.
    pub checkpoint: u64,
    /// Epochs between two evaluations.
    pub evaluation: u64,
}

/// Returns the cost model of the dense network, with its latency if that was measured.
fn cost_model<A: Architecture>(dense: &A, latency: Option<&LatencyModel>) -> Result<CostModel> {
    latency.map_or_else(|| Ok(dense.cost_model()), |model| model.cost_model(dense))
}

/// Refuses numbers that are not finite: JSON, in which plans and overlays are written, has none.
pub(super) fn expect_finite(table: &toml::Table) -> Result<()> {
    table.iter().try_for_each(|(name, value)| expect_finite_at(name, value))
}

fn expect_finite_at(name: &str, value: &toml::Value) -> Result<()> {
    match value {
        toml::Value::Float(number) if !number.is_finite() => {
            Err(Error::invalid(name, "a finite number", number))
        }
        toml::Value::Table(table) => {
            let mut fields = table.iter();
            fields
                .try_for_each(|(field, value)| expect_finite_at(&format!("{name}.{field}"), value))
        }
        toml::Value::Array(values) => {
            let mut values = values.iter().enumerate();
            values.try_for_each(|(at, value)| expect_finite_at(&format!("{name}.{at}"), value))
        }
        _ => Ok(()),
    }
}

impl Config {
    /// Reads a `config.toml`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`PipelineError::Options`] quoting the line that is
    /// wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        Self::from_toml(&text, &path.display().to_string())
    }

    /// Parses TOML; an error names `origin` as the place of the text.
    ///
    /// # Errors
    /// [`PipelineError::Options`] quoting the line that is wrong.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self> {
        let table: toml::Table =
            toml::from_str(text).map_err(|error| PipelineError::options(origin, error))?;
        expect_finite(&table)?;
        let parsed = toml::Deserializer::parse(text);
        let parsed = parsed.map_err(|error| PipelineError::options(origin, error))?;
        Ok(typed::read(parsed).map_err(|fault| PipelineError::options(origin, fault))?)
    }

    /// Checks the range of every option that a stage does not check itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the option, its value and what is allowed.
    pub fn check(&self) -> Result<()> {
        self.data.check()?;
        let Intervals { log, checkpoint, evaluation } = self.every;
        check_all([
            ("every.log", log, INTERVAL),
            ("every.checkpoint", checkpoint, INTERVAL),
            ("every.evaluation", evaluation, INTERVAL),
        ])?;
        if let Some(teacher) = &self.teacher {
            SHARE.check("teacher.share", teacher.share)?;
            let temperature = teacher.temperature;
            temperature.map_or(Ok(()), |own| TEMPERATURE.check("teacher.temperature", own))?;
        }
        for (name, stage) in [("train", &self.train), ("finetune", &self.finetune)] {
            stage.as_ref().map_or(Ok(()), |stage| stage.check(name))?;
        }
        self.search.check("search")?;
        self.latency.check()?;
        self.space.check(self.budget.latency.is_some())?;
        self.given_budgets().map(drop)
    }

    /// The budgets as given.
    fn given_budgets(&self) -> Result<Vec<Budget>> {
        let texts = [
            ("budget.macs", Metric::Macs, &self.budget.macs),
            ("budget.params", Metric::Params, &self.budget.params),
            ("budget.latency", Metric::Latency, &self.budget.latency),
        ];
        let given = texts.into_iter().filter_map(|(name, metric, text)| {
            text.as_ref()
                .map(|text| Ok(Budget { metric, limit: Limit::parse_as(name, metric, text)? }))
        });
        given.collect()
    }

    /// Returns the configuration as TOML.
    ///
    /// # Errors
    /// [`PipelineError::Options`] for a value that TOML does not have, such as null.
    pub fn to_toml(&self) -> Result<String> {
        let text = toml::to_string_pretty(self);
        Ok(text.map_err(|error| PipelineError::options("options of the run", error))?)
    }

    /// Returns the budgets, checked against the search space of the dense network: a latency only where its
    /// model is given.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit that is not a share or an amount, or if there is none;
    /// [`Error::Infeasible`] for a limit outside the range of the search space; those of
    /// [`LatencyModel::cost_model`].
    pub fn budgets<A: Architecture>(
        &self,
        dense: &A,
        latency: Option<&LatencyModel>,
    ) -> Result<Vec<Budget>> {
        let budgets = self.given_budgets()?;
        if budgets.is_empty() {
            let expected = "a limit: set budget.macs, budget.params, budget.latency, or several";
            return Err(Error::invalid("budget", expected, "none"));
        }
        let model = cost_model(&self.space.searched(dense)?, latency)?;
        let space = self.space.of(dense, latency)?;
        let known = |own: &&Budget| own.metric != Metric::Latency || latency.is_some();
        for budget in budgets.iter().filter(known) {
            budget.resolve(&model)?.check(&model, &space)?;
        }
        Ok(budgets)
    }

    /// Returns the budgets as amounts, for this dense network.
    ///
    /// # Errors
    /// Those of [`budgets`](Self::budgets);
    /// [`LatencyError::NotMeasured`](crate::error::LatencyError::NotMeasured) for the share of a latency without
    /// model.
    pub fn limits<A: Architecture>(
        &self,
        dense: &A,
        latency: Option<&LatencyModel>,
    ) -> Result<Vec<CostLimit>> {
        let model = cost_model(&self.space.searched(dense)?, latency)?;
        self.budgets(dense, latency)?.iter().map(|budget| budget.resolve(&model)).collect()
    }

    /// Distillation from the teacher, if there is one.
    pub fn distillation(&self) -> Option<Distillation> {
        self.teacher.as_ref().map(|teacher| {
            let soft = |temperature| DistillationKind::Soft { temperature };
            let kind = teacher.temperature.map_or(DistillationKind::Hard, soft);
            Distillation::new(kind, teacher.share)
        })
    }
}
