//! The files of a run.

use super::plan::PLAN;
use super::{Command, Config};
use crate::components::Reconstruction;
use crate::error::PipelineError;
use crate::files::{
    self, expect_own_names, if_there, restore_folder, write_atomically, write_with, Owner, Part,
};
use crate::import::is_checkpoint;
use crate::search::{expect_run, Checkpoints, CHECKPOINTS, METRICS};
use crate::subnet::ARTIFACT;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// File name of the configuration.
pub(super) const CONFIG: &str = "config.toml";
/// Folder names of the stages that are not the search, which is in the run folder itself.
pub(super) const DENSE: &str = "dense";
pub(super) const FINETUNE: &str = "finetune";
pub(super) const REFERENCE: &str = "reference";
/// Folder name of the network in the folder of a stage.
pub(super) const NETWORK: &str = "network";
const SUBNET: &str = "subnet";
const PAINTINGS: &str = "paintings";

/// Folder of a run.
///
/// | path | |
/// |---|---|
/// | `config.toml` | configuration, as given |
/// | `data.json` | numbers and checksums of the images that the run began with |
/// | `plan.json` | of the search: length, network, all options of the library |
/// | `corrupt_images.json` | of the search: training images that were skipped, where there are any |
/// | `metrics.jsonl`, `tensorboard/`, `checkpoints/` | of the search |
/// | `paintings/` | reconstructions of masked image modeling |
/// | `subnet/` | subnet as extracted |
/// | `dense/`, `finetune/`, `reference/` | other stages, each with the same files and `network/` |
/// | `latency.json` | latency model, where a latency is limited |
/// | `sensitivity.json` | measured sensitivity of the dense network, where it was measured |
/// | `summary.json`, `report.html` | results |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// Returns the run folder at `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Path of the configuration.
    pub fn config(&self) -> PathBuf {
        self.0.join(CONFIG)
    }

    /// Path of the fingerprint of the images.
    pub(super) fn data(&self) -> PathBuf {
        self.0.join("data.json")
    }

    /// Path of the results.
    pub fn summary(&self) -> PathBuf {
        self.0.join("summary.json")
    }

    /// Path of the latency model.
    pub fn latency(&self) -> PathBuf {
        self.0.join("latency.json")
    }

    /// Path of the measured sensitivity.
    pub fn sensitivity(&self) -> PathBuf {
        self.0.join("sensitivity.json")
    }

    /// Path of the dense network that the run trained.
    pub fn dense(&self) -> PathBuf {
        self.0.join(DENSE).join(NETWORK)
    }

    /// Path of the subnet as extracted.
    pub fn subnet(&self) -> PathBuf {
        self.0.join(SUBNET)
    }

    /// Path of the fine-tuned subnet.
    pub fn finetuned(&self) -> PathBuf {
        self.0.join(FINETUNE).join(NETWORK)
    }

    /// Path of the dense network that was trained for as many steps as the search has.
    pub(super) fn reference(&self) -> PathBuf {
        self.0.join(REFERENCE).join(NETWORK)
    }

    /// Folders of all stages, in the order they run.
    pub(super) fn stages(&self) -> [PathBuf; 4] {
        [DENSE, "", FINETUNE, REFERENCE].map(|stage| self.0.join(stage))
    }

    /// Returns the checkpoints of every stage.
    pub(super) fn checkpoints(&self) -> Result<Vec<PathBuf>> {
        let of = |stage: PathBuf| Checkpoints::new(stage.join(CHECKPOINTS), 1).paths();
        Ok(self.stages().into_iter().map(of).collect::<Result<Vec<_>>>()?.concat())
    }

    /// Returns the path of the newest subnet, if there is one.
    pub fn newest_subnet(&self) -> Option<PathBuf> {
        [self.finetuned(), self.subnet()].into_iter().find(|path| is_artifact(path))
    }

    /// Returns the artifact at this path: the folder itself, or the newest network of the run in
    /// it; `None` for a checkpoint, be it a file or a folder.
    pub fn artifact(&self) -> Option<PathBuf> {
        if is_checkpoint(&self.0) {
            return None;
        }
        if is_artifact(&self.0) {
            return Some(self.0.clone());
        }
        self.newest_subnet().or_else(|| Some(self.dense()).filter(|path| is_artifact(path)))
    }

    /// Paths of the plans of all stages.
    pub(super) fn plans(&self) -> [PathBuf; 4] {
        self.stages().map(|stage| stage.join(PLAN))
    }

    /// Checks that a run can begin or go on in the folder. Nothing is written.
    ///
    /// # Errors
    /// [`PipelineError::Unwritable`] if it cannot be written or created;
    /// [`FolderError::InUse`](crate::error::FolderError::InUse) if another process owns it;
    /// [`FolderError::Foreign`](crate::error::FolderError::Foreign) if it is not empty and holds no
    /// run; [`PipelineError::Options`] for a configuration that cannot be read.
    pub fn check(&self) -> Result<()> {
        expect_writable(&self.0)?;
        Owner::expect_free(&self.0)?;
        if self.config().is_file() {
            return Config::read(&self.config()).map(drop);
        }
        // Measured before the run, into its folder.
        let is_own = |name: &str| ["sensitivity.json", "latency.json"].contains(&name);
        expect_own_names("run folder (--out)", &self.0, is_own, "one with a run (config.toml)")
    }

    /// Checks that every stage of a configuration can begin or go on in its folder. Nothing is
    /// written.
    ///
    /// # Errors
    /// [`FolderError::Foreign`](crate::error::FolderError::Foreign) if one holds files of other
    /// programs.
    pub(super) fn check_stages(&self, config: &Config) -> Result<()> {
        let (all, command) = (config.command.is_none(), config.command);
        let stages = [
            (DENSE, command == Some(Command::Train) || all && config.weights.is_none()),
            ("", command == Some(Command::Search) || all),
            (FINETUNE, command == Some(Command::Finetune) || all && config.finetune.is_some()),
            (REFERENCE, (all || command == Some(Command::Search)) && config.compare),
        ];
        let mut folders = stages.into_iter().filter(|(_, runs)| *runs);
        folders.try_for_each(|(stage, _)| expect_run(&self.0.join(stage)))
    }

    /// Takes ownership of the folder, and creates it if it is not there.
    pub(super) fn claim(&self) -> Result<Owner> {
        self.check()?;
        Owner::claim(&self.0, Part::Pipeline).map_err(|error| match error {
            Error::Io { source, .. } => unwritable(&self.0, source),
            other => other,
        })
    }

    /// Returns the first file of a command's stage, or of the whole run.
    fn first_file(&self, command: Option<Command>) -> PathBuf {
        match command {
            Some(Command::Train) => self.0.join(DENSE).join(METRICS),
            Some(Command::Finetune) => self.0.join(FINETUNE).join(METRICS),
            Some(Command::Search) => self.0.join(METRICS),
            None => self.config(),
        }
    }

    /// Returns whether the stage of a command, or for none the whole run, has begun in the folder.
    pub fn has_begun(&self, command: Option<Command>) -> bool {
        self.first_file(command).exists()
    }

    /// Writes the configuration, unless a stage that it names has begun in the folder and the run is
    /// not resumed.
    pub(super) fn prepare(&self, config: &Config, resume: bool) -> Result<()> {
        let file = self.first_file(config.command);
        if !resume && file.exists() {
            return Err(PipelineError::Begun { folder: self.0.clone(), file }.into());
        }
        write_atomically(&self.config(), config.to_toml()?.as_bytes())
    }

    /// Paths of the reconstructions, in the order of their steps.
    pub(super) fn paintings(&self) -> Result<Vec<PathBuf>> {
        let folder = self.0.join(PAINTINGS);
        let paths = std::fs::read_dir(&folder).and_then(|entries| {
            entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()
        });
        let paths = paths.map_err(|source| Error::io("read", &folder, source));
        let mut paths = if_there(paths)?.unwrap_or_default();
        paths.retain(|path| is_painting(path));
        paths.sort();
        Ok(paths)
    }
}

/// Whether it is a file of reconstructions, and not one of another program or of a write that was interrupted.
fn is_painting(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("step-") && name.ends_with(".safetensors")
}

/// Checks that an output folder can be written, or be created where it is not there. Nothing is
/// written.
///
/// # Errors
/// [`PipelineError::Unwritable`] with the operating system's reason.
pub fn expect_writable(folder: &Path) -> Result<()> {
    files::expect_writable(folder).map_err(|source| unwritable(folder, source))
}

fn unwritable(folder: &Path, source: std::io::Error) -> Error {
    PipelineError::Unwritable { folder: folder.into(), source }.into()
}

/// Whether there is a network of the run, which an interrupted save may have left beside its path.
pub(super) fn is_saved(network: &Path) -> bool {
    // Loading it names what is wrong with it.
    let _ = restore_folder(network, &ARTIFACT);
    network.is_dir()
}

pub(super) fn is_artifact(folder: &Path) -> bool {
    is_saved(folder) && (folder.join(ARTIFACT.mark.0).is_file() || ARTIFACT.lost_mark(folder))
}

pub(super) fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))
}

/// Writes the reconstruction after `step` optimiser steps into the folder of the search.
pub(super) fn write_painting(folder: &Path, step: u64, painting: &Reconstruction) -> Result<()> {
    let folder = folder.join(PAINTINGS);
    create(&folder)?;
    let Reconstruction { images, masked, reconstructed } = painting;
    let named = [("images", images), ("hidden", masked), ("painted", reconstructed)];
    let tensors = named.map(|(name, tensor)| (name.to_string(), tensor.shallow_clone())).into();
    let path = folder.join(format!("step-{step:08}.safetensors"));
    write_with(&path, |file| crate::tensors::write_to(file, &path, &tensors))
}
