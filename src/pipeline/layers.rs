//! Options of a request, laid over one another: preset or run, TOML file, settings, flags.

use super::continuation::Begun;
use super::flags::Flags;
use super::hub_weights;
use super::named_network;
use super::overlay::{join, merge, setting};
use super::{Command, Config, Request, RunFolder, StageConfig};
use crate::error::PipelineError;
use crate::{Error, Result};
use std::path::Path;
use toml::{Table, Value};

impl Request {
    /// Returns the options of all places, over those `below`, which are of a run on disk.
    pub(super) fn table(&self, below: Option<&Table>, begun: Option<&Begun<'_>>) -> Result<Table> {
        let file = self.file.as_deref().map(read).transpose()?;
        let mut table = self.base(below, file.as_ref())?;
        named_network::expand(&mut Table::new(), &mut table)?;
        if self.replaces_budget(begun) {
            // Another limit replaces the preset's, which is one of the MACs.
            if let Some(Value::Table(budget)) = table.get_mut("budget") {
                budget.remove("macs");
            }
        }
        if let Some(mut own) = file {
            named_network::expand(&mut table, &mut own)?;
            merge(&mut table, own);
        }
        if let Some(begun) = begun {
            begun.keep_sections(&mut table);
        }
        let settings = self.settings_over(&mut table)?;
        merge(&mut table, settings);
        let command = begun.map_or(self.command, Begun::command);
        if command == Some(Command::Finetune) {
            finetune_like_search(&mut table);
        }
        let flags = self.flags.table(command, &table)?;
        merge(&mut table, flags);
        hub_weights::fetch(&mut table)?;
        Ok(table)
    }

    /// The options that all others are laid over: those of the run, also under a file that has them all, which takes the
    /// place of a preset alone. Its limits replace those of the run.
    fn base(&self, below: Option<&Table>, file: Option<&Table>) -> Result<Table> {
        if let Some(preset) = &self.preset {
            return parse(preset, "preset");
        }
        let whole = !self.resume && file.is_some_and(is_whole);
        match below {
            Some(below) => {
                let mut below = below.clone();
                below.retain(|name, _| !(whole && name == "budget"));
                Ok(below)
            }
            None if whole => Ok(Table::new()),
            None => parse(&self.default_preset, "preset"),
        }
    }

    /// Whether the flags of other limits replace that of the MACs: in a new run, and in one that has not searched.
    fn replaces_budget(&self, begun: Option<&Begun<'_>>) -> bool {
        let Flags { macs, params, latency, .. } = &self.flags;
        let fixed = begun.is_some_and(|begun| {
            self.preset.is_none() && (self.resume || begun.has_begun(Command::Search))
        });
        !fixed && macs.is_none() && (params.is_some() || latency.is_some())
    }

    /// The settings as a table. A named network removes the options of that in `table`.
    fn settings_over(&self, table: &mut Table) -> Result<Table> {
        let mut settings = Table::new();
        for text in &self.settings {
            let mut own = setting(text)?;
            if matches!(own.get("network"), Some(Value::String(_))) {
                settings.remove("network");
            }
            named_network::expand(table, &mut own)?;
            join(&mut settings, own);
        }
        Ok(settings)
    }
}

/// Whether a file has every option that a run needs, as each `config.toml` of a run has.
fn is_whole(file: &Table) -> bool {
    let mut own = file.clone();
    named_network::expand(&mut Table::new(), &mut own).is_ok() && from_table(&own).is_ok()
}

/// Without a section of its own, fine-tuning trains like the search.
fn finetune_like_search(table: &mut Table) {
    let search = table.get("search").filter(|_| !table.contains_key("finetune")).cloned();
    // An option that cannot be read is refused with the section that it was given in.
    let stage = search.and_then(|search| search.try_into::<StageConfig>().ok());
    let stage = stage.and_then(|search| Table::try_from(search.plain()).ok());
    table.extend(stage.map(|stage| ("finetune".into(), stage.into())));
}

pub(super) fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    parse(&text, &path.display().to_string())
}

/// The options of the run in a folder, if there is one.
pub(super) fn config_in(run: Option<&Path>) -> Result<Option<Table>> {
    let path = run.map(|run| RunFolder::new(run).config());
    path.filter(|path| path.is_file()).map(|path| read(&path)).transpose()
}

fn parse(text: &str, origin: &str) -> Result<Table> {
    Ok(toml::from_str(text).map_err(|error| PipelineError::options(origin, error))?)
}

/// Once through text, so that an error quotes the line that is wrong.
pub(super) fn from_table(table: &Table) -> Result<Config> {
    let origin = "options of the run";
    super::config::expect_finite(table)?;
    let text = toml::to_string(table).map_err(|error| PipelineError::options(origin, error))?;
    Config::from_toml(&text, origin)
}

pub(super) fn to_table(config: &Config) -> Result<Table> {
    let table = Table::try_from(config);
    Ok(table.map_err(|error| PipelineError::options("options of the run", error))?)
}
