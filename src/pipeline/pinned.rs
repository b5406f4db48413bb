//! Networks that the options of a run name: a run folder stands for the newest network in it, which is another one once
//! that run goes on, so the path of the network itself is kept.

use super::plan::PLAN;
use super::run_folder::{is_artifact, is_saved, DENSE};
use super::{Command, Config, RunFolder};
use crate::error::PipelineError;
use crate::files::{if_there, read_json};
use crate::import::is_checkpoint;
use crate::{Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

impl RunFolder {
    /// Returns the dense network that the run searches: that which it trained, else its weights; `None` without a run or either,
    /// and for a run that has trained or fine-tuned alone, whose weights are what it began with.
    ///
    /// # Errors
    /// [`PipelineError::Options`] for a configuration, [`Error::File`] for a plan, that cannot be read.
    pub fn searched_network(&self) -> Result<Option<PathBuf>> {
        if !self.config().is_file() {
            return Ok(None);
        }
        let Config { weights, command, .. } = Config::read(&self.config())?;
        let alone = matches!(command, Some(Command::Train | Command::Finetune));
        if alone && !self.has_begun(Some(Command::Search)) {
            return Ok(None);
        }
        let trained = self.is_trained_from(weights.as_deref())?.then(|| Ok(self.dense()));
        let given = || weights.map(|weights| pinned("weights", &weights, Some(self)));
        trained.or_else(given).transpose()
    }

    /// Whether the dense network in the folder was trained from `weights`, or from random ones without.
    pub(super) fn is_trained_from(&self, weights: Option<&Path>) -> Result<bool> {
        #[derive(Deserialize)]
        struct Origin {
            trained_from: Option<PathBuf>,
        }
        if !is_saved(&self.dense()) {
            return Ok(false);
        }
        let origin: Option<Origin> = if_there(read_json(&self.path().join(DENSE).join(PLAN)))?;
        Ok(match (weights, origin.and_then(|own| own.trained_from)) {
            (None, _) => true,
            (Some(weights), Some(from)) => is_named_by(weights, &from),
            (Some(_), None) => false,
        })
    }

    /// Whether the subnet of the run, as extracted or fine-tuned, is at this path.
    pub fn has_subnet_at(&self, path: &Path) -> bool {
        [self.subnet(), self.finetuned()].iter().any(|own| is_same(own, path))
    }
}

/// Returns the path of the newest network in a run folder; in the folder of the run itself, whose subnet is made of it,
/// that of the dense network. Every other path is returned as it is.
///
/// # Errors
/// [`Error::Invalid`] for the folder of the run itself without a dense network: its newest network is its subnet.
pub(super) fn pinned(
    option: &'static str,
    path: &Path,
    run: Option<&RunFolder>,
) -> Result<PathBuf> {
    if let Some(network) = networks_in(path, run).into_iter().next() {
        return Ok(network);
    }
    if run.is_some_and(|run| is_same(run.path(), path)) && !is_network(path) {
        let dense = RunFolder::new(path).dense();
        let expected = format!(
            "a path of a network: this is the folder of the run itself, without {} (give the path of the network, or \
             leave out the option to keep that of the run)",
            dense.display()
        );
        return Err(Error::invalid(format!("option {option}"), expected, path.display()));
    }
    Ok(path.into())
}

/// Returns the network that a run began with by the name `saved`. A run of an earlier version may have saved a run
/// folder.
///
/// # Errors
/// [`PipelineError::SeveralNetworks`] for a folder that has several by now, unless `given` is one of them.
pub(super) fn pinned_of_begun(
    option: &'static str,
    saved: &Path,
    given: Option<&Path>,
    run: &RunFolder,
) -> Result<PathBuf> {
    let mut networks = networks_in(saved, Some(run));
    if networks.len() <= 1 {
        return Ok(networks.pop().unwrap_or_else(|| saved.into()));
    }
    // Spelled as the folder was saved: a search knows its teacher by that.
    match networks.iter().find(|own| given.is_some_and(|given| is_same(own, given))) {
        Some(own) => Ok(own.clone()),
        None => {
            let (given, folder) = (saved.into(), run.path().into());
            Err(PipelineError::SeveralNetworks { option, given, networks, folder }.into())
        }
    }
}

/// Whether a path names a network: its own, in any spelling, or that of the run folder with it.
pub(super) fn is_named_by(network: &Path, path: &Path) -> bool {
    let run = RunFolder::new(path);
    let in_run = [run.finetuned(), run.subnet(), run.dense()];
    is_same(network, path) || in_run.iter().any(|own| is_same(network, own))
}

fn is_network(path: &Path) -> bool {
    is_checkpoint(path) || is_artifact(path)
}

/// The networks in a run folder, the newest first; none for any other path.
fn networks_in(path: &Path, run: Option<&RunFolder>) -> Vec<PathBuf> {
    if is_network(path) {
        return Vec::new();
    }
    let own = RunFolder::new(path);
    let networks = match run.is_some_and(|run| is_same(run.path(), path)) {
        true => vec![own.dense()],
        false => vec![own.finetuned(), own.subnet(), own.dense()],
    };
    networks.into_iter().filter(|path| is_artifact(path)).collect()
}

/// Whether two paths are of one file or folder, which need not be there where they are spelled alike.
pub(super) fn is_same(left: &Path, right: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    left == right || real(left).is_some_and(|left| real(right) == Some(left))
}
