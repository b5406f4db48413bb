//! One stage of the run: a session that is stepped to its end, with checkpoints on the way.

use crate::progress::Progress;
use once_for_both::data::{Batches, ImageSet};
use once_for_both::models::VitConfig;
use once_for_both::report::median;
use once_for_both::search::{
    latest_checkpoint, read_events, Checkpoints, Event, Listener, MetricsFile, Phase, Session,
};
use once_for_both::Result;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Set by Ctrl-C: stop after the step in progress.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

const CHECKPOINT_INTERVAL: u64 = 25;

/// A finished stage.
pub struct Stage {
    pub session: Session<VitConfig>,
    pub events: Vec<Event>,
    /// Wall time; unknown where the stage was resumed.
    pub seconds: Option<f64>,
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

/// What a stage reads and where it writes.
pub struct Place<'a> {
    pub folder: &'a Path,
    pub train: Batches<'a>,
    pub test: &'a ImageSet,
    pub resume: bool,
}

/// Steps a session to its end, from its newest checkpoint if there is one. `None` if interrupted.
pub fn run(
    place: Place,
    mut progress: Progress,
    fresh: impl FnOnce() -> Result<Session<VitConfig>>,
) -> Result<Option<Stage>> {
    let folder = place.folder.join("checkpoints");
    let saved = if place.resume { latest_checkpoint(&folder)? } else { None };
    let resumed = saved.is_some();
    let mut session = match saved {
        Some(checkpoint) => Session::resume(&checkpoint, place.train.device())?,
        None => fresh()?,
    };
    let checkpoints = Checkpoints::new(&folder, 2);
    let file = place.folder.join("metrics.jsonl");
    let mut metrics = MetricsFile::open(&file, session.steps_done())?;
    let mut events = read_events(&file)?;
    let mut train = place.train;
    let started = Instant::now();
    progress.begin(session.steps_done());
    while !session.is_done() {
        let batch = train.at(session.steps_done())?;
        let mut notice = |event: &Event| {
            metrics.notice(event)?;
            progress.notice(event)?;
            events.push(event.clone());
            Ok(())
        };
        session.step(&[batch], &mut notice)?;
        let step = session.steps_done();
        let interrupted = INTERRUPTED.load(Ordering::Relaxed);
        if interrupted || session.is_done() || step.is_multiple_of(CHECKPOINT_INTERVAL) {
            checkpoints.save(&session)?;
        }
        if interrupted && !session.is_done() {
            return Ok(None);
        }
        progress.step();
    }
    session.materialise()?;
    let top1 = place.test.top1(200, |images| session.supernet().network_logits(images))?;
    let evaluated = Event::Evaluated { step: session.steps_done(), top1 };
    metrics.notice(&evaluated)?;
    progress.finish(top1);
    events.push(evaluated);
    let seconds = Some(started.elapsed().as_secs_f64()).filter(|_| !resumed);
    Ok(Some(Stage { session, events, seconds }))
}
