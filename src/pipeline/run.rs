//! A run: its network, its images, its folder, and the stages of a command.

use super::latency::LatencySummary;
use super::measured::Measured;
use super::networks::{self, SharedTeacher};
use super::stages::{Origin, Trained};
use super::start::{no_dense_network, Start, SubnetStart};
use super::{write_report, Command, Config, Feed, ImageClassifier, Progress, RunFolder, Summary};
use crate::cost::Metric;
use crate::distributed::{Collective, SingleProcess};
use crate::files::write_json;
use crate::import::ImportReport;
use crate::subnet::Subnet;
use crate::Result;
use serde_json::json;
use std::path::PathBuf;
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
    /// [`PipelineError::Misfit`](crate::error::PipelineError::Misfit) for a network or a teacher that does not fit the
    /// images; those of loading the teacher.
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

    /// Runs the stages of the configured command, or all, and writes the report.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), before anything is written; [`FolderError::InUse`](crate::error::FolderError::InUse) if another
    /// process runs in the folder; [`PipelineError::Begun`](crate::error::PipelineError::Begun) if a
    /// stage has begun in the folder and the run is not resumed; those of the stages.
    pub fn run(&self) -> Result<PipelineOutcome> {
        // Rank 0 first: it mends what an interrupted save has left.
        let start = self.group.on_main(|| self.checked_start())?;
        let start = self.group.agree(start.map_or_else(|| self.checked_start(), Ok))?;
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
        let (network, architecture) = start.network(&self.dense);
        self.show(&Progress::RunStarted {
            folder: self.run.path(),
            network,
            macs: architecture.cost_model().dense_cost(Metric::Macs)?,
            train_images: self.feed.train_images(),
            test_images: self.feed.test_images(),
            device: self.feed.device(),
        });
        if !self.ensure_latency(architecture)? {
            return Ok(PipelineOutcome::Stopped);
        }
        let outcome = self.run_from(start)?;
        self.report()?;
        Ok(outcome.unwrap_or(PipelineOutcome::Stopped))
    }

    /// Runs the stages of the configured command; `None` if one was stopped.
    fn run_from(&self, start: Start<A>) -> Result<Option<PipelineOutcome>> {
        match (self.config.command, start) {
            (Some(Command::Finetune), Start::Subnet(start)) => self.finetune_alone(*start),
            (Some(Command::Train), start) => {
                let trained = self.train(start.dense())?;
                Ok(trained.map(|dense| finished(self.run.dense(), &dense)))
            }
            (Some(Command::Search), Start::Dense(start)) => self.search_from(&start.network),
            (None, Start::Dense(start)) if self.config.weights.is_some() => {
                self.search_from(&start.network)
            }
            (None, _) => match self.train(None)? {
                Some(trained) => self.search_from(&trained.network),
                None => Ok(None),
            },
            (Some(Command::Search | Command::Finetune), _) => Err(no_dense_network()),
        }
    }

    /// Searches the dense network; in a whole run, fine-tunes the subnet; trains the dense network for comparison, where
    /// that is asked for.
    fn search_from(&self, dense: &Subnet<A>) -> Result<Option<PipelineOutcome>> {
        let Some(search) = self.search(dense)? else { return Ok(None) };
        let (mut finetuned, mut reference) = (None, None);
        if self.config.command.is_none() && self.config.finetune.is_some() {
            let before = self.group.on_main(|| Origin::read::<A>(&self.run.subnet()))?;
            let Some(done) = self.finetune(&search.network, before, Some(dense))? else {
                return Ok(None);
            };
            finetuned = Some(done);
        }
        if self.config.compare {
            let Some(done) = self.compare(dense)? else { return Ok(None) };
            reference = Some(done);
        }
        self.conclude(dense, &search, finetuned.as_ref(), reference.as_ref()).map(Some)
    }

    fn finetune_alone(&self, start: SubnetStart<A>) -> Result<Option<PipelineOutcome>> {
        let SubnetStart { subnet, origin, dense } = start;
        let Some(finetuned) = self.finetune(&subnet, Some(origin), dense.as_ref())? else {
            return Ok(None);
        };
        self.group.on_main(|| {
            let path = self.run.summary();
            let Some(summary) = Summary::read(&path)? else { return Ok(()) };
            write_json(&path, &summary.with_subnet(&finetuned)?)
        })?;
        Ok(Some(finished(self.run.finetuned(), &finetuned)))
    }

    /// Writes the report. The stages are done: an error is shown, and the run ends as it did.
    fn report(&self) -> Result<()> {
        let written = self.group.on_main(|| Ok(write_report::<A>(&self.run)))?;
        if let Some(Err(error)) = &written {
            self.show(&Progress::ReportFailed { error });
        }
        Ok(())
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
}

fn finished<A: ImageClassifier>(network: PathBuf, trained: &Trained<A>) -> PipelineOutcome {
    PipelineOutcome::Finished { network, top1: trained.stage.top1, summary: None }
}
