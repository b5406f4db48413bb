//! Options of a run that has begun: resumed, or with a further stage.

use super::layers::{from_table, to_table};
use super::pinned::{is_named_by, is_same, pinned, pinned_of_begun};
use super::{Command, Config, Request, RunFolder};
use crate::error::PipelineError;
use crate::Result;
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

/// A run that has begun, and the request that goes on with it.
pub(super) struct Begun<'r> {
    request: &'r Request,
    run: RunFolder,
    table: Table,
}

impl<'r> Begun<'r> {
    /// The run with the options `table`.
    pub(super) fn new(request: &'r Request, table: Table) -> Self {
        let run = RunFolder::new(request.run.clone().unwrap_or_else(|| ".".into()));
        Self { request, run, table }
    }

    /// The part to run: of a resumed run, if none is given, that of the run.
    pub(super) fn command(&self) -> Option<Command> {
        let resumed = || self.saved_command().filter(|_| self.request.resume);
        self.request.command.or_else(resumed)
    }

    fn saved_command(&self) -> Option<Command> {
        self.table.get("command").and_then(|own| own.clone().try_into().ok())
    }

    pub(super) fn has_begun(&self, stage: Command) -> bool {
        self.run.has_begun(Some(stage))
    }

    /// The sections of stages that have begun, whose options stay those that they began with: presets and files are not
    /// about them. A stage that is resumed has to be given the same ones.
    fn kept_sections(&self) -> Vec<&'static str> {
        let (resume, command) = (self.request.resume, self.command());
        let resumed = |stage| resume && command.is_none_or(|own| own == stage);
        let kept = SECTIONS.into_iter();
        let kept = kept.filter(|&(_, stage)| self.has_begun(stage) && !resumed(stage));
        kept.map(|(section, _)| section).collect()
    }

    /// Replaces the sections of stages that have begun by those of the run.
    pub(super) fn keep_sections(&self, table: &mut Table) {
        for section in self.kept_sections() {
            let own = self.table.get(section).cloned();
            table.remove(section);
            table.extend(own.map(|own| (section.into(), own)));
        }
    }

    /// Returns the options with which the run goes on.
    pub(super) fn resolve(&self) -> Result<Config> {
        let mut saved = from_table(&self.table)?;
        let mut below = self.table.clone();
        // Inherited below, where none are given.
        below.remove("weights");
        let mut config = from_table(&self.request.table(Some(&below), Some(self))?)?;
        config.command = self.command();
        self.settle_weights(&mut config, &mut saved)?;
        self.settle_teacher(&mut config, &mut saved)?;
        config.data.keep_normalisation_of(&saved.data);
        // Batches do not depend on the limit.
        saved.data.corrupt_images = config.data.corrupt_images;
        if self.run.data().is_file() {
            // The images are recognised wherever they are.
            config.data.fill_places_of(&saved.data);
            saved.data.take_places_of(&config.data);
        }
        // Another device may resume the run, and nothing depends on a measurement that failed.
        saved.latency.elsewhere = config.latency.elsewhere;
        if !self.run.latency().is_file() {
            saved.latency.clone_from(&config.latency);
        }
        let compared = [self.compared(to_table(&saved)?), self.compared(to_table(&config)?)];
        expect_same(&compared[0], &compared[1], "", self.run.path())?;
        Ok(config)
    }

    /// The options that may not differ: all of a resumed run, else those that its stages share or began with.
    fn compared(&self, mut table: Table) -> Table {
        let kept = self.kept_sections();
        let is_kept = |name: &str| SHARED.contains(&name) || kept.contains(&name);
        table.retain(|name, _| self.request.resume || is_kept(name));
        table
    }

    /// Sets the network that the run starts from: that of the run where none is given.
    fn settle_weights(&self, config: &mut Config, saved: &mut Config) -> Result<()> {
        let finetunes = config.command == Some(Command::Finetune);
        let is_run = |given: &Path| is_same(self.run.path(), given);
        let given = config.weights.take();
        // The subnet of the run is fine-tuned, whether it is named or not; the weights of the run are its dense network.
        let searched = self.has_begun(Command::Search);
        let is_own = |given: &Path| is_run(given) || searched && self.run.has_subnet_at(given);
        let named = given.clone().filter(|given| !(finetunes && is_own(given)));
        config.weights = named;
        self.settle("weights", &mut config.weights, &mut saved.weights)?;
        if !finetunes {
            return Ok(());
        }
        if searched {
            if saved.weights.is_some() && self.run.is_trained_from(saved.weights.as_deref())? {
                // The dense network is in the run, wherever the weights are that it was trained from.
                config.weights.clone_from(&saved.weights);
            }
            // It may be elsewhere by now; its sizes are compared with those that were searched.
            saved.weights.clone_from(&config.weights);
            return Ok(());
        }
        let is_start = |given: &Path| {
            let start = saved.weights.as_deref().is_some_and(|start| is_named_by(start, given));
            start && self.has_begun(Command::Train)
        };
        let inherited = given.as_deref().is_none_or(is_start)
            && self.saved_command() != Some(Command::Finetune);
        if inherited || given.is_some_and(|given| is_run(&given)) {
            // Those that the training began with, or made, are no subnet.
            (config.weights, saved.weights) = (None, None);
        }
        Ok(())
    }

    fn settle_teacher(&self, config: &mut Config, saved: &mut Config) -> Result<()> {
        let path = |config: &Config| config.teacher.as_ref().map(|own| own.weights.clone());
        let (mut given, mut of_run) = (path(config), path(saved));
        if given.is_none() {
            return Ok(());
        }
        self.settle("teacher.weights", &mut given, &mut of_run)?;
        for (config, path) in [(config, given), (saved, of_run)] {
            if let (Some(teacher), Some(path)) = (&mut config.teacher, path) {
                teacher.weights = path;
            }
        }
        Ok(())
    }

    /// Sets both paths to networks in place of run folders: `given` to that of the run, if it names it.
    fn settle(
        &self,
        name: &'static str,
        given: &mut Option<PathBuf>,
        saved: &mut Option<PathBuf>,
    ) -> Result<()> {
        if let Some(own) = saved {
            *own = pinned_of_begun(name, own, given.as_deref(), &self.run)?;
        }
        let of_run = saved.clone();
        *given = match (given.take(), of_run) {
            (Some(given), Some(saved)) if is_named_by(&saved, &given) => Some(saved),
            (Some(given), _) => Some(pinned(name, &given, Some(&self.run))?),
            (None, saved) => saved,
        };
        Ok(())
    }
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
