//! Resolution of a run's options: preset, TOML file, settings and flags, each over those before.

use super::continuation::Begun;
use super::flags::Flags;
use super::layers::{config_in, from_table};
use super::pinned::pinned;
use super::run_folder::CONFIG;
use super::{Command, Config};
use crate::error::PipelineError;
use crate::import::is_checkpoint;
use crate::Result;
use std::path::{Path, PathBuf};

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
    /// TOML file. One that has all options that a run needs, as `config.toml` of a run has, is not laid over
    /// `default_preset`; over the options of a run, its budget replaces that of the run.
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
    /// Returns the options of a run that trains, searches or fine-tunes. Where weights or teacher are a run folder, the
    /// options name the newest network in it.
    ///
    /// # Errors
    /// [`PipelineError::NoRun`] if there is none to resume; [`PipelineError::Options`] for options
    /// that cannot be read; [`PipelineError::Changed`] for one that differs from that of the run in
    /// the folder: any, when it is resumed; seed, data or network, when a stage is added;
    /// [`PipelineError::SeveralNetworks`] for a run of an earlier version that began with a run folder, in which another
    /// network was made since.
    pub fn resolve(&self) -> Result<Config> {
        let begun = config_in(self.run.as_deref())?;
        if self.resume && begun.is_none() {
            let folder = self.run.clone().unwrap_or_default();
            return Err(PipelineError::NoRun { folder, file: CONFIG }.into());
        }
        if let Some(begun) = begun {
            return Begun::new(self, begun).resolve();
        }
        let mut config = Config { command: self.command, ..from_table(&self.table(None, None)?)? };
        if let Some(path) = &mut config.weights {
            *path = pinned("weights", path, None)?;
        }
        if let Some(teacher) = &mut config.teacher {
            teacher.weights = pinned("teacher.weights", &teacher.weights, None)?;
        }
        Ok(config)
    }

    /// Returns the options for a network from disk: those of the run whose folder it is in, or is. Beside a checkpoint of
    /// another program, a `config.toml` is that program's.
    ///
    /// # Errors
    /// [`PipelineError::Options`] for options that cannot be read.
    pub fn resolve_for(&self, network: Option<&Path>) -> Result<Config> {
        let own = network.filter(|path| !is_checkpoint(path));
        let mut folders = own.iter().flat_map(|path| path.ancestors().take(3));
        let run = folders.find(|folder| folder.join(CONFIG).is_file());
        from_table(&self.table(config_in(run)?.as_ref(), None)?)
    }
}
