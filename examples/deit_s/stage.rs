//! One stage of the run: a session that is stepped to its end, with checkpoints on the way.

use crate::progress::Progress;
use once_for_both::data::{Batches, ImageSet};
use once_for_both::models::VitConfig;
use once_for_both::report::median;
use once_for_both::search::{
    read_events, Checkpoints, Ending, Event, Listener, MetricsFile, Phase, Run, Session,
};
use once_for_both::Result;
use std::path::Path;
use std::sync::atomic::AtomicBool;
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
    let checkpoints = Checkpoints::new(place.folder.join("checkpoints"), 2);
    let device = place.train.device();
    let kept = if place.resume { checkpoints.resume(device)? } else { None };
    let resumed = kept.is_some();
    let session = match kept {
        Some(kept) => {
            kept.refused.iter().for_each(|(path, why)| progress.refuse(path, why));
            kept.session
        }
        None => fresh()?,
    };
    let file = place.folder.join("metrics.jsonl");
    let mut metrics = MetricsFile::open(&file, session.steps_done())?;
    let mut events = read_events(&file)?;
    let mut train = place.train;
    let started = Instant::now();
    progress.begin(session.steps_done());
    let mut run = Run::new(session, checkpoints, CHECKPOINT_INTERVAL)?;
    let bar = progress.clone();
    let mut batches = |step: u64| {
        bar.at(step);
        Ok(vec![train.at(step)?])
    };
    let mut notice = |event: &Event| {
        metrics.notice(event)?;
        progress.notice(event)?;
        events.push(event.clone());
        Ok(())
    };
    if run.drive(&mut batches, &INTERRUPTED, &mut notice)? == Ending::Stopped {
        return Ok(None);
    }
    let mut session = run.into_session();
    session.materialise()?;
    let top1 = place.test.top1(200, |images| session.supernet().network_logits(images))?;
    let evaluated = Event::Evaluated { step: session.steps_done(), top1 };
    metrics.notice(&evaluated)?;
    progress.finish(top1);
    events.push(evaluated);
    let seconds = Some(started.elapsed().as_secs_f64()).filter(|_| !resumed);
    Ok(Some(Stage { session, events, seconds }))
}
