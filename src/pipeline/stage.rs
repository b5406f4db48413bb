//! One stage of a run: a search or training in a folder, with evaluations between its steps.

use super::corrupt_images::CorruptFile;
use super::plan::{StagePlan, PLAN};
use super::run_folder::write_painting;
use super::{FeedBatches, ImageClassifier, Pipeline, Progress, StageConfig, StageStart};
use crate::batch::{Batch, BatchSource};
use crate::cost::Metric;
use crate::error::PipelineError;
use crate::files::write_json;
use crate::latency::median;
use crate::report::TensorBoard;
use crate::search::{read_events, Event, Outcome, Phase, Run, Search, SearchBuilder, METRICS};
use crate::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Test images that are reconstructed for the report.
const RECONSTRUCTED: i64 = 4;

/// A stage that has run to its end.
pub(super) struct FinishedStage<A: ImageClassifier> {
    pub(super) search: Search<A>,
    pub(super) events: Vec<Event>,
    /// Top-1 on the test images, in [0, 1].
    pub(super) top1: f64,
    /// Wall time; `None` for a stage that was resumed.
    pub(super) time: Option<Time>,
    pub(super) rate: PeakRate,
}

/// Peak learning rate of a stage, with the name of its option.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeakRate {
    option: &'static str,
    value: f64,
}

impl PeakRate {
    /// Names the option in an error of training that diverged.
    pub(super) fn explain(self, error: Error) -> Error {
        let Self { option, value: rate } = self;
        match error {
            Error::Diverged { .. } => {
                PipelineError::Diverged { option, rate, source: Box::new(error) }.into()
            }
            other => other,
        }
    }
}

/// Wall time in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub(super) total: f64,
    /// Spent waiting for batches.
    pub(super) batches: f64,
}

impl<A: ImageClassifier> FinishedStage<A> {
    /// Median time of the logged steps of a phase, in milliseconds; NaN if there are none.
    pub(super) fn step_ms(&self, phase: Phase) -> f64 {
        let times = self.events.iter().filter_map(|event| match event {
            // The first logged step includes the warm-up of allocator and caches.
            Event::Step(metrics) if metrics.phase == phase && metrics.step > 0 => {
                Some(metrics.step_ms)
            }
            _ => None,
        });
        median(times.collect())
    }
}

/// Name, folder, options and seed of a stage.
pub(super) struct StageSetup<'a> {
    pub(super) name: &'static str,
    pub(super) folder: PathBuf,
    pub(super) config: &'a StageConfig,
    /// Seed of the batches.
    pub(super) seed: u64,
}

impl StageSetup<'_> {
    pub(super) fn rate(&self) -> PeakRate {
        let option = match self.name {
            "train" => "train.lr",
            "finetune" => "finetune.lr",
            // The compared dense network is trained like the search.
            _ => "search.lr",
        };
        PeakRate { option, value: self.config.lr }
    }
}

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Trains to the end, from the newest checkpoint if the run is resumed. `None` if it was
    /// stopped.
    pub(super) fn run_stage(
        &self,
        setup: &StageSetup,
        plan: &StagePlan<A>,
        builder: SearchBuilder<A>,
    ) -> Result<Option<FinishedStage<A>>> {
        let builder = builder.distributed(Arc::clone(&self.group));
        let (mut search, resumed) = self.build(setup, builder)?;
        let mut batches = Watched::new(self, setup)?;
        self.show(&Progress::StageStarted(start(setup, &search, batches.epoch)?));
        let started = Instant::now();
        let steps = search.steps_done();
        // Owns the folder: nothing else is written into one that it refuses.
        let run = search.run_in(&setup.folder)?;
        let board = self.group.on_main(|| {
            write_json(&setup.folder.join(PLAN), plan)?;
            TensorBoard::create(setup.folder.join("tensorboard"), steps)
        })?;
        let listener = |event: &Event| {
            self.show(&Progress::Event(event));
            Ok(())
        };
        let run = match board {
            Some(board) => run.on_event(board),
            None => run,
        };
        let mut run = run.on_event(listener).checkpoint_every(self.config.every.checkpoint);
        if let Some(stop) = self.stop {
            run = run.stop_when(stop);
        }
        let Some(top1) = self.train_and_evaluate(setup, &mut run, &mut batches)? else {
            return Ok(None);
        };
        drop(run);
        let corrupt = batches.batches.corrupt_images();
        self.show(&Progress::StageFinished { top1, corrupt: &corrupt });
        let (total, waited) = (started.elapsed().as_secs_f64(), batches.waited.as_secs_f64());
        let time = (!resumed).then_some(Time { total, batches: waited });
        let events = self.group.on_main(|| read_events(&setup.folder.join(METRICS)))?;
        let events = events.unwrap_or_default();
        Ok(Some(FinishedStage { search, events, top1, time, rate: setup.rate() }))
    }

    /// The search, and whether it is resumed.
    fn build(&self, setup: &StageSetup, builder: SearchBuilder<A>) -> Result<(Search<A>, bool)> {
        if !self.resume {
            return Ok((builder.build()?, false));
        }
        let resumed = builder.build_or_resume(&setup.folder)?;
        for (path, reason) in &resumed.skipped {
            self.show(&Progress::CheckpointSkipped { path, reason });
        }
        let done = resumed.search.steps_done() > 0;
        Ok((resumed.search, done))
    }

    /// Trains to the end, evaluates after every `every.evaluation` epochs, and returns the last
    /// top-1. `None` if it was stopped.
    fn train_and_evaluate(
        &self,
        setup: &StageSetup,
        run: &mut Run<'_, A>,
        batches: &mut Watched,
    ) -> Result<Option<f64>> {
        let interval = batches.epoch.saturating_mul(self.config.every.evaluation.max(1));
        let options = run.search().options();
        let painted = painting_steps(options.pmim.as_ref().map_or(0, |_| options.search_steps));
        loop {
            let (step, done) = (run.search().steps_done(), run.search().is_done());
            if step.is_multiple_of(interval) && step > 0 || done {
                let top1 = run.search_mut().evaluate(|supernet| {
                    self.feed.top1(|images| supernet.network_logits(images))
                })?;
                run.emit(&Event::Evaluated { step, top1 })?;
                if done {
                    return Ok(Some(top1));
                }
            }
            if painted.contains(&step) && run.search().phase() == Phase::Search {
                let images = self.feed.calibration_batch(RECONSTRUCTED)?;
                let painting = run.search().reconstruct(&images)?;
                self.group.on_main(|| write_painting(&setup.folder, step, &painting))?;
            }
            let evaluation = (step / interval + 1).saturating_mul(interval);
            let later = painted.iter().copied().filter(|&painted| painted > step);
            let next = later.fold(evaluation, u64::min);
            let outcome = run.train_until(next, batches)?;
            self.share_corrupt(setup, &mut batches.batches)?;
            if outcome == Outcome::Stopped {
                return Ok(None);
            }
        }
    }
}

fn start<A: ImageClassifier>(
    setup: &StageSetup,
    search: &Search<A>,
    steps_per_epoch: u64,
) -> Result<StageStart> {
    Ok(StageStart {
        name: setup.name,
        steps: search.options().total_steps,
        done: search.steps_done(),
        steps_per_epoch,
        images_per_step: setup.config.batch.saturating_mul(setup.config.accumulate as i64),
        macs: search.supernet().cost_model().dense_cost(Metric::Macs)?,
    })
}

/// Batches that report their step and the time they take.
struct Watched<'a> {
    batches: FeedBatches<'a>,
    epoch: u64,
    accumulate: u64,
    waited: Duration,
    progress: Box<dyn Fn(&Progress<'_>) + 'a>,
    /// On rank 0.
    corrupt: Option<CorruptFile>,
}

impl<'a> Watched<'a> {
    fn new<A: ImageClassifier>(pipeline: &'a Pipeline<A>, setup: &StageSetup) -> Result<Self> {
        let mut batches = pipeline.feed.batches(setup.config.batch, setup.seed)?;
        pipeline.recall_corrupt(setup, &mut batches)?;
        let epoch = steps_per_epoch(&batches, setup.config);
        let accumulate = setup.config.accumulate;
        let progress = Box::new(|own: &Progress<'_>| pipeline.show(own));
        let main = pipeline.group.is_main();
        let corrupt = main.then(|| CorruptFile::new(&setup.folder, &batches));
        Ok(Self { batches, epoch, accumulate, waited: Duration::ZERO, progress, corrupt })
    }
}

impl BatchSource for Watched<'_> {
    fn batch(&mut self, number: u64) -> Result<Batch> {
        if number.is_multiple_of(self.accumulate) {
            (self.progress)(&Progress::Step(number / self.accumulate));
        }
        let started = Instant::now();
        let batch = self.batches.batch(number);
        self.waited += started.elapsed();
        let batch = batch?;
        self.corrupt.as_mut().map_or(Ok(()), |file| file.update(&self.batches))?;
        Ok(batch)
    }
}

/// Optimiser steps of an epoch.
pub(super) fn steps_per_epoch(batches: &FeedBatches, config: &StageConfig) -> u64 {
    (batches.per_epoch() / config.accumulate.max(1)).max(1)
}

/// Steps after which images are reconstructed: early in the search, and before its end.
fn painting_steps(search_steps: u64) -> Vec<u64> {
    match search_steps {
        0 => Vec::new(),
        steps => vec![(steps / 10).max(1), steps - 1],
    }
}
