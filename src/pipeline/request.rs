//! Resolution of a run's options: preset, TOML file, settings and flags, each over those before.

use super::hub_weights;
use super::named_network;
use super::overlay::{join, merge, nested, setting};
use super::run_folder::CONFIG;
use super::{Command, Config, RunFolder};
use crate::error::PipelineError;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Options that all stages of a run share.
const SHARED: [&str; 3] = ["seed", "data", "network"];

/// Options of a run, from all their places.
///
/// Flags override settings, settings the file, and the file the preset. A run folder that holds a
/// run already takes the place of the default preset.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Part to run; `None` for all stages.
    pub command: Option<Command>,
    /// TOML to begin with. `None`: options of the run in `run`, else `default_preset`.
    pub preset: Option<String>,
    /// TOML to begin with in a new run.
    pub default_preset: String,
    /// TOML file.
    pub file: Option<PathBuf>,
    /// Settings `NAME=VALUE`, as [`parse_setting`](super::parse_setting) takes them.
    pub settings: Vec<String>,
    /// Options with a flag of their own.
    pub flags: Flags,
    /// Run folder.
    pub run: Option<PathBuf>,
    /// Whether the run in the folder is resumed; its options then may not differ.
    pub resume: bool,
}

/// Options that a command line has flags for.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `data.folder`.
    pub data: Option<PathBuf>,
    /// `data.shards.val`.
    pub val: Option<PathBuf>,
    /// `weights`.
    pub weights: Option<PathBuf>,
    /// `teacher.weights`.
    pub teacher: Option<PathBuf>,
    /// `budget.macs`.
    pub macs: Option<String>,
    /// `budget.params`.
    pub params: Option<String>,
    /// `budget.latency`.
    pub latency: Option<String>,
    /// Sets `space.depth`.
    pub depth: bool,
    /// Sets `space.qk_v_apart`.
    pub qk_v_apart: bool,
    /// `device`.
    pub device: Option<String>,
    /// `seed`.
    pub seed: Option<u64>,
    /// `epochs` of every stage of the command.
    pub epochs: Option<f64>,
    /// `steps` of every stage of the command.
    pub steps: Option<u64>,
    /// `batch` of every stage of the command.
    pub batch: Option<i64>,
    /// `lr` of every stage of the command.
    pub lr: Option<f64>,
}

impl Request {
    /// Returns the options of a run that trains, searches or fine-tunes.
    ///
    /// # Errors
    /// [`PipelineError::NoRun`] if there is none to resume; [`PipelineError::Options`] for options
    /// that cannot be read; [`PipelineError::Changed`] for one that differs from that of the run in
    /// the folder: any, when it is resumed; seed, data or network, when a stage is added.
    pub fn resolve(&self) -> Result<Config> {
        let begun = config_in(self.run.as_deref())?;
        if self.resume && begun.is_none() {
            let folder = self.run.clone().unwrap_or_default();
            return Err(PipelineError::NoRun { folder, file: CONFIG }.into());
        }
        let table = self.table(begun.as_ref())?;
        match begun {
            Some(begun) => self.continued(begun, table),
            None => Ok(Config { command: self.command, ..from_table(&table)? }),
        }
    }

    /// Returns the options for a network from disk: those of the run whose folder holds it.
    ///
    /// # Errors
    /// [`PipelineError::Options`] for options that cannot be read.
    pub fn resolve_for(&self, network: Option<&Path>) -> Result<Config> {
        let mut folders = network.iter().flat_map(|path| path.ancestors().take(3));
        let run = folders.find(|folder| folder.join(CONFIG).is_file());
        from_table(&self.table(config_in(run)?.as_ref())?)
    }

    /// The options of all places, over those of a run that has begun.
    fn table(&self, begun: Option<&Table>) -> Result<Table> {
        let mut table = match (begun, &self.preset) {
            (Some(begun), None) => begun.clone(),
            (_, preset) => parse(preset.as_ref().unwrap_or(&self.default_preset), "preset")?,
        };
        if let (Some(begun), true) = (begun, self.resume && self.preset.is_some()) {
            // Those of the preset are of other stages than the one that is resumed.
            let run = RunFolder::new(self.run.clone().unwrap_or_default());
            let resumed = self.command;
            keep_begun(&mut table, begun, |stage| {
                resumed.is_some_and(|own| own != stage) && run.has_begun(Some(stage))
            });
        }
        named_network::expand(&mut Table::new(), &mut table)?;
        let Flags { macs, params, latency, .. } = &self.flags;
        let searched = |run: &PathBuf| RunFolder::new(run).has_begun(Some(Command::Search));
        let searched = self.resume || self.run.as_ref().is_some_and(searched);
        let fixed = begun.is_some() && self.preset.is_none() && searched;
        if !fixed && macs.is_none() && (params.is_some() || latency.is_some()) {
            // Another limit replaces the preset's, which is one of the MACs: in a new run, and in one that has trained.
            if let Some(Value::Table(budget)) = table.get_mut("budget") {
                budget.remove("macs");
            }
        }
        if let Some(file) = &self.file {
            let mut own = read(file)?;
            named_network::expand(&mut table, &mut own)?;
            merge(&mut table, own);
        }
        let mut settings = Table::new();
        for text in &self.settings {
            let mut own = setting(text)?;
            if matches!(own.get("network"), Some(Value::String(_))) {
                settings.remove("network");
            }
            named_network::expand(&mut table, &mut own)?;
            join(&mut settings, own);
        }
        merge(&mut table, settings);
        if self.command == Some(Command::Finetune) {
            finetune_like_search(&mut table);
        }
        let flags = self.flags.table(self.command, &table)?;
        merge(&mut table, flags);
        hub_weights::fetch(&mut table)?;
        Ok(table)
    }

    /// The options of a run that has begun: resumed, or with a further stage.
    fn continued(&self, begun: Table, mut table: Table) -> Result<Config> {
        let saved = from_table(&begun)?;
        let folder = self.run.as_deref().unwrap_or(Path::new("."));
        let run = RunFolder::new(folder);
        if !self.resume {
            // Options of a stage that has begun stay those it began with.
            keep_begun(&mut table, &begun, |stage| run.has_begun(Some(stage)));
        }
        let mut config = from_table(&table)?;
        // The network that the run started from is needed for the comparison.
        let searched =
            self.command == Some(Command::Finetune) && run.has_begun(Some(Command::Search));
        if config.weights.is_none() || searched && !self.resume {
            config.weights.clone_from(&saved.weights);
        }
        if config.data.mean.is_empty() && config.data.std.is_empty() {
            // As measured, or by default, when the run began.
            config.data.mean.clone_from(&saved.data.mean);
            config.data.std.clone_from(&saved.data.std);
        }
        config.command = match (self.command, self.resume) {
            (None, true) => saved.command,
            (command, _) => command,
        };
        let mut saved = saved;
        // Another device may resume the run, and nothing depends on a measurement that failed.
        saved.latency.elsewhere = config.latency.elsewhere;
        // Batches do not depend on the limit.
        saved.data.corrupt_images = config.data.corrupt_images;
        if run.data().is_file() {
            // The images are recognised wherever they are.
            saved.data.folder.clone_from(&config.data.folder);
            saved.data.shards.val.clone_from(&config.data.shards.val);
            saved.data.shards.index.clone_from(&config.data.shards.index);
        }
        if !run.latency().is_file() {
            saved.latency.clone_from(&config.latency);
        }
        let (saved, given) = (to_table(&saved)?, to_table(&config)?);
        let shared = |table: &Table| -> Table {
            let own = table.iter().filter(|(name, _)| SHARED.contains(&name.as_str()));
            own.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        match self.resume {
            true => expect_same(&saved, &given, "", folder)?,
            false => expect_same(&shared(&saved), &shared(&given), "", folder)?,
        }
        Ok(config)
    }
}

impl Flags {
    /// The flags as a table over `config`.
    fn table(&self, command: Option<Command>, config: &Table) -> Result<Table> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string().into());
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let mut table = Table::new();
        let mut set = |name: &str, value: Option<Value>| {
            value.into_iter().for_each(|value| merge(&mut table, nested(name, value)));
        };
        set("data.folder", path(&self.data));
        set("data.shards.val", path(&self.val));
        set("weights", path(&self.weights));
        set("teacher.weights", path(&self.teacher));
        set("budget.macs", text(&self.macs));
        set("budget.params", text(&self.params));
        set("budget.latency", text(&self.latency));
        set("space.depth", self.depth.then_some(Value::from(true)));
        set("space.qk_v_apart", self.qk_v_apart.then_some(Value::from(true)));
        set("device", text(&self.device));
        set("seed", integer("seed", self.seed)?);
        let steps = integer("steps", self.steps)?;
        for &stage in Command::sections(command) {
            if !config.contains_key(stage) {
                continue;
            }
            set(&format!("{stage}.epochs"), self.epochs.map(Value::from));
            set(&format!("{stage}.steps"), steps.clone());
            set(&format!("{stage}.batch"), self.batch.map(Value::from));
            set(&format!("{stage}.lr"), self.lr.map(Value::from));
        }
        Ok(table)
    }
}

/// Replaces the sections of some stages by those of the run that has begun.
fn keep_begun(table: &mut Table, begun: &Table, keeps: impl Fn(Command) -> bool) {
    let sections = [
        ("train", Command::Train),
        ("search", Command::Search),
        ("budget", Command::Search),
        ("latency", Command::Search),
        ("space", Command::Search),
        ("finetune", Command::Finetune),
    ];
    for (section, _) in sections.into_iter().filter(|(_, stage)| keeps(*stage)) {
        table.remove(section);
        table.extend(begun.get(section).map(|own| (section.into(), own.clone())));
    }
}

/// TOML has signed integers only.
fn integer(name: &str, value: Option<u64>) -> Result<Option<Value>> {
    let signed = |value| {
        i64::try_from(value)
            .map_err(|_| Error::invalid(name, format!("at most {}", i64::MAX), value))
    };
    Ok(value.map(signed).transpose()?.map(Value::from))
}

/// Without a section of its own, fine-tuning trains like the search.
fn finetune_like_search(table: &mut Table) {
    let Some(Value::Table(search)) =
        table.get("search").filter(|_| !table.contains_key("finetune"))
    else {
        return;
    };
    let mut stage = search.clone();
    for name in ["share", "prune_steps_per_epoch", "method", "options", "components"] {
        stage.remove(name);
    }
    table.insert("finetune".into(), stage.into());
}

/// The options of the run in a folder, if there is one.
fn config_in(run: Option<&Path>) -> Result<Option<Table>> {
    let path = run.map(|run| RunFolder::new(run).config());
    path.filter(|path| path.is_file()).map(|path| read(&path)).transpose()
}

fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, origin: &str) -> Result<Table> {
    Ok(toml::from_str(text).map_err(|error| PipelineError::options(origin, error))?)
}

/// Once through text, so that an error quotes the line that is wrong.
fn from_table(table: &Table) -> Result<Config> {
    let origin = "options of the run";
    super::config::expect_finite(table)?;
    let text = toml::to_string(table).map_err(|error| PipelineError::options(origin, error))?;
    Config::from_toml(&text, origin)
}

fn to_table(config: &Config) -> Result<Table> {
    let table = Table::try_from(config);
    Ok(table.map_err(|error| PipelineError::options("options of the run", error))?)
}

/// Refuses options that differ from those of the run, except device and command.
fn expect_same(saved: &Table, given: &Table, under: &str, folder: &Path) -> Result<()> {
    let none = Value::from("nothing");
    for name in saved.keys().chain(given.keys()) {
        let (was, is) = (saved.get(name).unwrap_or(&none), given.get(name).unwrap_or(&none));
        let free = under.is_empty() && ["device", "command"].contains(&name.as_str());
        match (was, is) {
            (Value::Table(was), Value::Table(is)) => {
                expect_same(was, is, &format!("{under}{name}."), folder)?;
            }
            _ if was == is || free => {}
            _ => {
                let (name, folder) = (format!("{under}{name}"), folder.to_path_buf());
                let (given, saved) = (is.to_string(), was.to_string());
                return Err(PipelineError::Changed { name, given, saved, folder }.into());
            }
        }
    }
    Ok(())
}
