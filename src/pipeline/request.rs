//! Resolution of a run's options: preset, TOML file, settings and flags, each over those before.

use super::flags::Flags;
use super::hub_weights;
use super::named_network;
use super::overlay::{join, merge, setting};
use super::run_folder::CONFIG;
use super::{Command, Config, RunFolder};
use crate::error::PipelineError;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Options that all stages of a run share.
const SHARED: [&str; 3] = ["seed", "data", "network"];

/// Sections of options, with the stage that they are of.
const SECTIONS: [(&str, Command); 6] = [
    ("train", Command::Train),
    ("search", Command::Search),
    ("budget", Command::Search),
    ("latency", Command::Search),
    ("space", Command::Search),
    ("finetune", Command::Finetune),
];

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
        match begun {
            Some(begun) => self.continued(&begun),
            None => Ok(Config { command: self.command, ..from_table(&self.table(None)?)? }),
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
        for (section, _) in self.kept_sections(begun) {
            let own = begun.and_then(|begun| begun.get(section)).cloned();
            table.remove(section);
            table.extend(own.map(|own| (section.into(), own)));
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
        let command = self.command_in(begun);
        if command == Some(Command::Finetune) {
            finetune_like_search(&mut table);
        }
        let flags = self.flags.table(command, &table)?;
        merge(&mut table, flags);
        hub_weights::fetch(&mut table)?;
        Ok(table)
    }

    /// The part to run: of a resumed run, if none is given, that of the run.
    fn command_in(&self, begun: Option<&Table>) -> Option<Command> {
        let saved = begun.filter(|_| self.resume).and_then(|begun| begun.get("command"));
        let saved = || saved.cloned().and_then(|own| own.try_into().ok());
        self.command.or_else(saved)
    }

    /// The sections of stages that have begun, whose options stay those that they began with: presets and files are not
    /// about them. A stage that is resumed has to be given the same ones.
    fn kept_sections(&self, begun: Option<&Table>) -> Vec<(&'static str, Command)> {
        let Some(run) = self.run.as_ref().filter(|_| begun.is_some()) else { return Vec::new() };
        let (run, command) = (RunFolder::new(run), self.command_in(begun));
        let resumed = |stage| self.resume && command.is_none_or(|own| own == stage);
        let kept = SECTIONS.into_iter();
        kept.filter(|&(_, stage)| run.has_begun(Some(stage)) && !resumed(stage)).collect()
    }

    /// The options of a run that has begun: resumed, or with a further stage.
    fn continued(&self, begun: &Table) -> Result<Config> {
        let mut saved = from_table(begun)?;
        let mut config = from_table(&self.table(Some(begun))?)?;
        let folder = self.run.as_deref().unwrap_or(Path::new("."));
        let run = RunFolder::new(folder);
        config.command = self.command_in(Some(begun));
        // The network that the run started from is needed for the comparison.
        let searched = run.has_begun(Some(Command::Search));
        if config.weights.is_none() || searched && config.command == Some(Command::Finetune) {
            config.weights.clone_from(&saved.weights);
        }
        if config.data.mean.is_empty() && config.data.std.is_empty() {
            // As measured, or by default, when the run began.
            config.data.mean.clone_from(&saved.data.mean);
            config.data.std.clone_from(&saved.data.std);
        }
        // Another device may resume the run, and nothing depends on a measurement that failed.
        saved.latency.elsewhere = config.latency.elsewhere;
        if !run.latency().is_file() {
            saved.latency.clone_from(&config.latency);
        }
        // Batches do not depend on the limit.
        saved.data.corrupt_images = config.data.corrupt_images;
        if run.data().is_file() {
            // The images are recognised wherever they are.
            let of = |config: &mut Config| {
                let data = &mut config.data;
                [&mut data.folder, &mut data.shards.val, &mut data.shards.index].map(Option::take)
            };
            let (was, is) = (of(&mut saved), of(&mut config));
            let now = was.into_iter().zip(is).map(|(was, is)| is.or(was)).collect::<Vec<_>>();
            for config in [&mut saved, &mut config] {
                let data = &mut config.data;
                let places = [&mut data.folder, &mut data.shards.val, &mut data.shards.index];
                places.into_iter().zip(&now).for_each(|(place, now)| place.clone_from(now));
            }
        }
        let (saved, given) = (to_table(&saved)?, to_table(&config)?);
        let kept: Vec<&str> =
            self.kept_sections(Some(begun)).into_iter().map(|(section, _)| section).collect();
        let compared = |table: &Table| -> Table {
            let is_kept = |name: &str| SHARED.contains(&name) || kept.contains(&name);
            let own = table.iter().filter(|(name, _)| self.resume || is_kept(name));
            own.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        expect_same(&compared(&saved), &compared(&given), "", folder)?;
        Ok(config)
    }
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
