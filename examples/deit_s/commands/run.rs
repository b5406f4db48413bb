//! Training, search and fine-tuning in a run folder.

use super::open::open;
use super::{images, saved, Build, Outcome};
use crate::cli::RunOptions;
use crate::progress::ProgressBar;
use crate::{ranks, AnyError};
use once_for_both::distributed::Collective;
use once_for_both::pipeline::{Config, ImageClassifier, PipelineOutcome, Progress, RunFolder};
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Set by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub fn run<A: ImageClassifier>(
    config: Config,
    options: &RunOptions,
    build: Build<A>,
    group: &Arc<dyn Collective>,
) -> Result<Outcome, AnyError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let out = match &options.out {
        Some(out) => out.clone(),
        None if group.world_size() == 1 => PathBuf::from(format!("runs/{now}")),
        None => return Err("--out: got none, expected a folder that all processes share".into()),
    };
    // Before the images are opened, which may take long.
    RunFolder::new(&out).check()?;
    let (bar, reported) = (ProgressBar::default(), Cell::new(true));
    let pipeline = open(config, &out, build)?
        .distributed(Arc::clone(group))
        .resume(options.resume)
        .stop_when(&INTERRUPTED)
        .on_progress(|progress| {
            reported.set(reported.get() && !matches!(progress, Progress::ReportFailed { .. }));
            bar.show(progress);
        });
    ctrlc::set_handler(interrupt)?;
    let outcome = pipeline.run()?;
    if !group.is_main() {
        return Ok(match outcome {
            PipelineOutcome::Finished { .. } => Outcome::Finished,
            PipelineOutcome::Stopped => Outcome::Interrupted(None),
        });
    }
    let run = RunFolder::new(&out);
    if let PipelineOutcome::Finished { network, top1, summary } = &outcome {
        match summary {
            Some(summary) => print!("{summary}"),
            None => println!("top-1 {:.2}% of {} images", 100.0 * top1, images(&pipeline)),
        }
        saved(network);
        summary.iter().for_each(|_| saved(&run.summary()));
    }
    let report = out.join("report.html");
    // None where a measurement of the latency was stopped.
    if reported.get() && report.is_file() {
        saved(&report);
    }
    Ok(match outcome {
        PipelineOutcome::Finished { .. } => Outcome::Finished,
        PipelineOutcome::Stopped => Outcome::Interrupted(Some(out)),
    })
}

/// The first Ctrl-C stops after the current step, with a checkpoint; one some seconds later stops at once. A
/// launcher passes on a signal that its ranks have had already: that is the same one.
fn interrupt() {
    const SAME: Duration = Duration::from_secs(2);
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = FIRST.get_or_init(Instant::now);
    if INTERRUPTED.swap(true, Ordering::Relaxed) {
        if first.elapsed() > SAME {
            std::process::exit(130);
        }
    } else if ranks::is_main() {
        eprintln!("stopping after this step, with a checkpoint; press again after two seconds to stop at once");
    }
}
