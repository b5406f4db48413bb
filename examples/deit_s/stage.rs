//! One stage of a run: a session that is stepped to its end, with evaluations and checkpoints.

use crate::config::Intervals;
use crate::feed::{Feed, Stream};
use crate::folder::{painting_steps, write_painting};
use crate::layers::METRICS;
use crate::networks::{taught, VitTeacher};
use crate::progress::Progress;
use crate::stage_config::StageConfig;
use once_for_both::models::VitConfig;
use once_for_both::report::{median, TensorBoard};
use once_for_both::search::{
    read_events, Checkpoints, Ending, Event, Listener, MetricsFile, Phase, Run, Search,
};
use once_for_both::Result;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Set by Ctrl-C: stop after the step in progress.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Test images that are shown with what is painted into them.
const PAINTED: i64 = 4;

/// A finished stage.
pub struct Stage {
    pub session: Search<VitConfig>,
    pub events: Vec<Event>,
    pub top1: f64,
    /// Time, where the stage was not resumed.
    pub time: Option<Time>,
}

/// Where the time went, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Time {
    pub all: f64,
    /// Waiting for batches.
    pub data: f64,
}

impl Stage {
    /// Median of the logged step times of a phase, in milliseconds.
    pub fn step_ms(&self, phase: Phase) -> f64 {
        let times = self.events.iter().filter_map(|event| match event {
            // The first logged step holds the warm-up of allocator and caches.
            Event::Step(metrics) if metrics.phase == phase && metrics.step > 0 => {
                Some(metrics.step_ms)
            }
            _ => None,
        });
        median(times.collect())
    }
}

/// What a stage works with.
pub struct Plan<'a> {
    pub folder: &'a Path,
    pub feed: &'a Feed,
    pub config: &'a StageConfig,
    pub every: &'a Intervals,
    pub seed: u64,
    pub resume: bool,
    /// Steps of a search that paints; 0 for none.
    pub paint_until: u64,
    /// Whom to learn from.
    pub teacher: Option<VitTeacher>,
}

/// Steps a session to its end, from its newest checkpoint if there is one. `None` if interrupted.
pub fn run(
    plan: &Plan,
    mut progress: Progress,
    fresh: impl FnOnce() -> Result<Search<VitConfig>>,
) -> Result<Option<Stage>> {
    let method = taught(plan.teacher.clone());
    let checkpoints = Checkpoints::new(plan.folder.join("checkpoints"), 2);
    let mut stream = plan.feed.stream(plan.config.batch, plan.seed)?;
    let kept = match plan.resume {
        true => checkpoints.resume_with(&method, plan.feed.device)?,
        false => None,
    };
    let resumed = kept.is_some();
    let session = match kept {
        Some(kept) => {
            kept.refused.iter().for_each(|(path, why)| progress.refuse(path, why));
            kept.session
        }
        None => fresh()?,
    };
    let file = plan.folder.join(METRICS);
    let mut metrics = MetricsFile::open(&file, session.steps_done())?;
    let epoch = steps_per_epoch(&stream, plan.config);
    progress.begin(session.steps_done(), epoch);
    let started = Instant::now();
    let mut waited = Duration::ZERO;
    let bar = progress.clone();
    let mut batches = |step: u64| {
        bar.at(step);
        let asked = Instant::now();
        let parts = step * plan.config.accumulate..(step + 1) * plan.config.accumulate;
        let batches = parts.map(|part| stream.at(part)).collect();
        waited += asked.elapsed();
        batches
    };
    let mut board = TensorBoard::create(plan.folder.join("tensorboard"), session.steps_done())?;
    let mut notice = |event: &Event| {
        metrics.on_event(event)?;
        board.on_event(event)?;
        progress.on_event(event)?;
        Ok(())
    };
    let mut run = Run::new(session, checkpoints, plan.every.checkpoint)?.by(method);
    let interval = epoch * plan.every.evaluation.max(1);
    let paintings = painting_steps(plan.paint_until);
    let top1 = loop {
        let step = run.session().steps_done();
        if step.is_multiple_of(interval) && step > 0 || run.session().is_done() {
            let top1 = evaluate(plan.feed, run.session_mut())?;
            on_event(&Event::Evaluated { step, top1 })?;
            if run.session().is_done() {
                break top1;
            }
        }
        if paintings.contains(&step) && run.session().phase() == Phase::Search {
            let painting = run.session().reconstruct(&plan.feed.probe(PAINTED)?)?;
            write_painting(plan.folder, step, &painting)?;
        }
        let evaluation = (step / interval + 1) * interval;
        let next =
            paintings.iter().copied().filter(|&painted| painted > step).fold(evaluation, u64::min);
        if run.drive_until(next, &mut batches, &INTERRUPTED, &mut notice)? == Ending::Stopped {
            return Ok(None);
        }
    };
    progress.finish(top1, &stream.corrupt());
    let all = started.elapsed().as_secs_f64();
    let time = (!resumed).then_some(Time { all, data: waited.as_secs_f64() });
    let session = concluded(run.into_session())?;
    Ok(Some(Stage { session, events: read_events(&file)?, top1, time }))
}

/// A session whose steps are done, with the EMA in place of the last weights if it kept one.
fn concluded(mut session: Search<VitConfig>) -> Result<Search<VitConfig>> {
    if session.options().average.is_some() {
        session.swap_ema_weights()?;
    }
    Ok(session)
}

/// Optimiser steps of an epoch.
pub fn steps_per_epoch(stream: &Stream, config: &StageConfig) -> u64 {
    (stream.steps_per_epoch() / config.accumulate.max(1)).max(1)
}

fn evaluate(feed: &Feed, session: &mut Search<VitConfig>) -> Result<f64> {
    let averaged = session.options().average.is_some() && session.steps_done() > 0;
    if averaged {
        session.swap_ema_weights()?;
    } else {
        session.materialise()?;
    }
    let top1 = feed.top1(|images| session.supernet().network_logits(images));
    if averaged {
        session.swap_ema_weights()?;
    }
    top1
}
