//! A run: its network, its images, its folder, and the stages of a command.

use super::latency::LatencySummary;
use super::measured::Measured;
use super::networks::{self, Loaded, SharedTeacher};
use super::run_folder::is_saved;
use super::stages::Trained;
use super::{write_report, Command, Config, Feed, ImageClassifier, Progress, RunFolder, Summary};
use crate::components::{Distillation, TeacherSource};
use crate::cost::Metric;
use crate::distributed::{Collective, SingleProcess};
use crate::error::PipelineError;
use crate::files::write_json;
use crate::import::ImportReport;
use crate::subnet::{Description, Provenance, Subnet};
use crate::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

/// A run: training, search and fine-tuning of one network in a run folder.
pub struct Pipeline<'a, A: ImageClassifier> {
    pub(super) config: Config,
    pub(super) run: RunFolder,
    pub(super) feed: Feed,
    pub(super) dense: A,
    pub(super) teacher: Option<SharedTeacher>,
    teacher_import: Option<ImportReport>,
    pub(super) resume: bool,
    pub(super) stop: Option<&'a AtomicBool>,
    pub(super) group: Arc<dyn Collective>,
    pub(super) progress: Box<dyn Fn(&Progress<'_>) + 'a>,
}

impl<A: ImageClassifier> std::fmt::Debug for Pipeline<'_, A> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Pipeline")
            .field("run", &self.run)
            .field("dense", &self.dense)
            .finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum PipelineOutcome {
    /// All stages of the command are done.
    Finished {
        /// Path of the network that was made.
        network: PathBuf,
        /// Its top-1 on the test images, in [0, 1].
        top1: f64,
        /// Results; `None` for [`Command::Train`] and [`Command::Finetune`].
        summary: Option<Box<Summary>>,
    },
    /// The stop flag was set; the state is in a checkpoint.
    Stopped,
}

impl<'a, A: ImageClassifier> Pipeline<'a, A> {
    /// Returns the run of a dense network in a folder. The teacher of the configuration is loaded.
    ///
    /// # Errors
    /// [`PipelineError::Misfit`] for a network or a teacher that does not fit the images; those of
    /// loading the teacher.
    pub fn new(mut config: Config, run: impl Into<PathBuf>, feed: Feed, dense: A) -> Result<Self> {
        networks::expect_fits(&dense, &feed, "network of the configuration")?;
        // Measured where the configuration has none.
        config.data.mean.clone_from(&feed.normalisation().mean);
        config.data.std.clone_from(&feed.normalisation().std);
        let teacher = config.teacher.as_ref();
        let teacher = teacher.map(|own| networks::load_teacher::<A>(own, &feed)).transpose()?;
        let (teacher, teacher_import) =
            teacher.map_or((None, None), |(own, report)| (Some(own), report));
        let (run, stop, progress) = (RunFolder::new(run), None, Box::new(|_: &Progress| ()));
        let (resume, group) = (false, Arc::new(SingleProcess));
        Ok(Self {
            config,
            run,
            feed,
            dense,
            teacher,
            teacher_import,
            resume,
            stop,
            group,
            progress,
        })
    }

    /// Sets the processes that train together. `batch` of a stage is the images of all of them; rank 0
    /// alone writes the run folder and shows progress. Networks in the run folder are read by all
    /// ranks.
    pub fn distributed(mut self, group: Arc<dyn Collective>) -> Self {
        self.feed = self.feed.distributed(Arc::clone(&group));
        self.group = group;
        self
    }

    /// Shows progress, on rank 0.
    pub(super) fn show(&self, progress: &Progress<'_>) {
        if self.group.is_main() {
            (self.progress)(progress);
        }
    }

    /// Sets whether stages resume from their newest checkpoints.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Stops after the current step once this flag is set, by a signal handler for example.
    pub fn stop_when(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Sets the listener of the progress.
    pub fn on_progress(mut self, listener: impl Fn(&Progress<'_>) + 'a) -> Self {
        self.progress = Box::new(listener);
        self
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Configuration of the dense network.
    pub fn dense(&self) -> &A {
        &self.dense
    }

    /// The images.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Loads a network that fits the images: from a run folder, an artifact, or a checkpoint, which
    /// is fitted to the dense network. `name` is the network's name in errors.
    ///
    /// # Errors
    /// [`Error::File`] for a path without a network; [`PipelineError::Misfit`] for one that does
    /// not fit the images; those of import and artifact.
    pub fn load(&self, path: &Path, name: &str) -> Result<Subnet<A>> {
        Ok(self.loaded(path, name)?.network)
    }

    /// [`load`](Self::load) of a network that is used as it is. `because` says for what.
    ///
    /// # Errors
    /// Those of `load`; [`PipelineError::Untrained`] for a checkpoint that lacks variables of the network,
    /// or has a classifier for other classes.
    pub fn load_trained(
        &self,
        path: &Path,
        name: &str,
        because: &'static str,
    ) -> Result<Subnet<A>> {
        let loaded = self.loaded(path, name)?;
        loaded.expect_trained(name, because)?;
        Ok(loaded.network)
    }

    fn loaded(&self, path: &Path, name: &str) -> Result<Loaded<A>> {
        let options = self.config.import.options(self.config.seed);
        let device = self.feed.device();
        let loaded = networks::load(path, &self.dense, &options, device, &|own| self.show(own))?;
        networks::expect_fits(loaded.network.architecture(), &self.feed, name)?;
        Ok(loaded)
    }

    /// Checks everything that can be refused before the first step: options, budgets, networks.
    ///
    /// # Errors
    /// Those of [`RunFolder::check`]; [`PipelineError::OtherImages`] for images, and
    /// [`PipelineError::Changed`] for a dense network, other than those that the
    /// run in the folder began with; those of [`run`](Self::run) that its options cause.
    pub fn check(&self) -> Result<()> {
        let command = self.config.command;
        self.run.check()?;
        self.expect_same_images()?;
        self.expect_same_network()?;
        self.run.check_stages(&self.config)?;
        if command == Some(Command::Finetune) {
            // First: without a subnet, no option matters.
            self.subnet_to_finetune()?;
            self.check_options()?;
            return self.subnet().map(drop);
        }
        self.check_options()?;
        let trains = self.run.has_begun(Some(Command::Train)) && !is_saved(&self.run.dense());
        if trains && command == Some(Command::Search) {
            return Err(self.unfinished("train"));
        }
        let start = self.loaded_start()?;
        if command == Some(Command::Search) && start.is_none() {
            return Err(no_dense_network());
        }
        let dense = start.as_ref().map_or(&self.dense, |start| start.network.architecture());
        if command == Some(Command::Train) {
            self.config.space.searched(dense)?;
            return self.config.budgets(dense, self.latency_model()?.as_ref()).map(drop);
        }
        dense.resized(&dense.cost_model().dense)?;
        self.expect_measurable()?;
        let options = self.search_options()?;
        let dense_teaches = |own: Distillation| own.teacher == TeacherSource::Dense;
        let taught = options.training.distillation.is_some_and(dense_teaches);
        // A search that has begun has its teacher.
        let begins = !(self.resume && self.run.has_begun(Some(Command::Search)));
        if let (Some(start), true) = (&start, taught && begins) {
            let because =
                "it teaches its search; train it first (command train), or give a teacher";
            start.expect_trained("weights", because)?;
        }
        self.search_of(dense)?.options(options).check()
    }

    fn unfinished(&self, stage: &'static str) -> Error {
        PipelineError::Unfinished { folder: self.run.path().into(), stage }.into()
    }

    /// The subnet to fine-tune, and its name in errors: that in the run folder, or that of the
    /// configuration.
    fn subnet_to_finetune(&self) -> Result<(PathBuf, &'static str)> {
        let own = self.run.subnet();
        match &self.config.weights {
            _ if is_saved(&own) => Ok((own, "subnet of the run")),
            // `weights` are those that the search began with.
            _ if self.run.has_begun(Some(Command::Search)) => Err(self.unfinished("search")),
            Some(path) => Ok((path.clone(), "weights")),
            None => Err(PipelineError::NoSubnet { folder: self.run.path().into() }.into()),
        }
    }

    /// Runs the stages of the configured command, or all, and writes the report.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), before anything is written; [`FolderError::InUse`](crate::error::FolderError::InUse) if another
    /// process runs in the folder; [`PipelineError::Begun`] if a
    /// stage has begun in the folder and the run is not resumed; those of the stages.
    pub fn run(&self) -> Result<PipelineOutcome> {
        // Rank 0 first: it mends what an interrupted save has left.
        self.group.on_main(|| self.check())?;
        self.group.agree(if self.group.is_main() { Ok(()) } else { self.check() })?;
        self.expect_alike(json!({ "resume": self.resume }))?;
        let _owner = self.group.on_main(|| {
            let owner = self.run.claim()?;
            self.run.prepare(&self.config, self.resume)?;
            self.save_fingerprint()?;
            Ok(owner)
        })?;
        if let (Some(teacher), Some(report)) = (&self.config.teacher, &self.teacher_import) {
            self.show(&Progress::Imported { path: &teacher.weights, report });
        }
        let start = self.start()?;
        let dense = start.as_ref().map_or(&self.dense, Subnet::architecture);
        self.show(&Progress::RunStarted {
            folder: self.run.path(),
            dense_macs: dense.cost_model().dense_cost(Metric::Macs)?,
            train_images: self.feed.train_images(),
            test_images: self.feed.test_images(),
            device: self.feed.device(),
        });
        if !self.ensure_latency(dense)? {
            return Ok(PipelineOutcome::Stopped);
        }
        let outcome = match self.config.command {
            Some(Command::Train) => {
                self.train(start.as_ref())?.map(|dense| finished(self.run.dense(), &dense))
            }
            Some(Command::Finetune) => self.finetune_alone()?,
            Some(Command::Search) => {
                let start = start.ok_or_else(no_dense_network)?;
                match self.search(&start)? {
                    Some(search) => Some(self.conclude(&start, &search, None, None)?),
                    None => None,
                }
            }
            None => self.run_all()?,
        };
        self.group.on_main(|| write_report::<A>(&self.run))?;
        Ok(outcome.unwrap_or(PipelineOutcome::Stopped))
    }

    fn run_all(&self) -> Result<Option<PipelineOutcome>> {
        let given = self.config.weights.as_ref().map(|_| self.start()).transpose()?.flatten();
        let start = match given {
            Some(start) => start,
            None => match self.train(None)? {
                Some(trained) => trained.network,
                None => return Ok(None),
            },
        };
        let Some(search) = self.search(&start)? else { return Ok(None) };
        let (mut finetuned, mut reference) = (None, None);
        if self.config.finetune.is_some() {
            let before = self.group.on_main(|| Description::<A>::read(&self.run.subnet()))?;
            let before = before.map(|subnet| subnet.provenance);
            let Some(done) = self.finetune(&search.network, before)? else { return Ok(None) };
            finetuned = Some(done);
        }
        if self.config.compare {
            let Some(done) = self.compare(&start)? else { return Ok(None) };
            reference = Some(done);
        }
        self.conclude(&start, &search, finetuned.as_ref(), reference.as_ref()).map(Some)
    }

    fn finetune_alone(&self) -> Result<Option<PipelineOutcome>> {
        let (subnet, provenance) = self.subnet()?;
        let Some(finetuned) = self.finetune(&subnet, Some(provenance))? else { return Ok(None) };
        self.group.on_main(|| {
            let path = self.run.summary();
            let Some(summary) = Summary::read(&path)? else { return Ok(()) };
            write_json(&path, &summary.with_subnet(&finetuned)?)
        })?;
        Ok(Some(finished(self.run.finetuned(), &finetuned)))
    }

    /// Writes the results.
    fn conclude(
        &self,
        dense: &Subnet<A>,
        search: &Trained<A>,
        finetuned: Option<&Trained<A>>,
        reference: Option<&Trained<A>>,
    ) -> Result<PipelineOutcome> {
        let latency = self.latency_model()?;
        let limits = self.config.limits(dense.architecture(), latency.as_ref())?;
        let latency = LatencySummary::of(latency.as_ref(), &search.stage.events);
        let (seed, feed) = (self.config.seed, &self.feed);
        let searched = &self.config.space.searched(dense.architecture())?;
        let measured =
            Measured { seed, feed, limits, latency, dense, searched, search, finetuned, reference };
        let summary = Summary::measure(measured)?;
        self.group.on_main(|| write_json(&self.run.summary(), &summary))?;
        let network = if finetuned.is_some() { self.run.finetuned() } else { self.run.subnet() };
        let (top1, summary) = (summary.subnet.top1, Some(Box::new(summary)));
        Ok(PipelineOutcome::Finished { network, top1, summary })
    }

    /// The network to search: that of the configuration, or what `train` made of it or of random weights in the run
    /// folder.
    pub(super) fn start(&self) -> Result<Option<Subnet<A>>> {
        Ok(self.loaded_start()?.map(|start| start.network))
    }

    fn loaded_start(&self) -> Result<Option<Loaded<A>>> {
        let (dense, given) = (self.run.dense(), &self.config.weights);
        let trained_from = self.dense_plan()?.and_then(|plan| plan.trained_from);
        let trained = is_saved(&dense) && (given.is_none() || trained_from == *given);
        match given {
            _ if trained => self.loaded(&dense, "dense network of the run").map(Some),
            Some(path) => self.loaded(path, "weights").map(Some),
            None => Ok(None),
        }
    }

    /// The network to fine-tune, with its provenance: the subnet in the run folder, or that of the
    /// configuration.
    fn subnet(&self) -> Result<(Subnet<A>, Provenance)> {
        let (path, name) = self.subnet_to_finetune()?;
        let subnet = self.load(&path, name)?;
        let provenance = match RunFolder::new(path).artifact() {
            Some(folder) => Description::<A>::read(&folder)?.provenance,
            None => Provenance {
                seed: Some(self.config.seed),
                ..Provenance::of(subnet.architecture())?
            },
        };
        Ok((subnet, provenance))
    }
}

fn finished<A: ImageClassifier>(network: PathBuf, trained: &Trained<A>) -> PipelineOutcome {
    PipelineOutcome::Finished { network, top1: trained.stage.top1, summary: None }
}

fn no_dense_network() -> Error {
    let expected = "weights, or a dense network in the run folder (train one first)".into();
    PipelineError::NoNetwork { purpose: "search", expected }.into()
}
