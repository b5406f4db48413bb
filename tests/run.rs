//! A run that is killed, damaged, filled up or poisoned loses nothing.

mod support;

use once_for_both::batch::Targets;
use once_for_both::components::UnitImportance;
use once_for_both::data::Batch;
use once_for_both::models::VitConfig;
use once_for_both::search::{
    read_events, Checkpoints, Ending, Event, Method, MetricsFile, NonFiniteAction, Run, Search,
    SearchOptions,
};
use once_for_both::{Error, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::tiny_run::{alone, batch, fade_out_options, session_with, without_times};
use support::{numbers, test_device, TestResult};
use tch::Tensor;

const STEPS: u64 = 40;
const SEARCH: u64 = 28;

fn options() -> SearchOptions {
    let tiny = fade_out_options();
    let mut options = SearchOptions::new(STEPS, SEARCH).seed(3);
    options.log_interval = 1;
    options.prune_interval = 2;
    options.fade_out_steps = 3;
    options.optimiser.alpha_rate = 0.6;
    SearchOptions { average: tiny.average, ..options }
}

fn fresh() -> Result<Search<VitConfig>> {
    session_with(options(), 0.5, Method::of).map_err(in_words)
}

/// A test's error as one of the crate's.
fn in_words(error: Box<dyn std::error::Error>) -> Error {
    Error::Io {
        action: "prepare",
        path: "test".into(),
        source: std::io::Error::other(error.to_string()),
    }
}

/// Goes on with the run in a folder, or begins it.
fn go(folder: &Path, stop: &AtomicBool) -> Result<Ending> {
    let checkpoints = || Checkpoints::new(folder.join("checkpoints"), 3);
    let session = match checkpoints().resume(test_device())? {
        Some(resumed) => resumed.session,
        None => fresh()?,
    };
    let mut metrics = MetricsFile::open(folder.join("metrics.jsonl"), session.steps_done())?;
    let mut run = Run::new(session, checkpoints(), 2)?;
    run.drive(&mut |step| Ok(vec![batch(step).map_err(in_words)?]), stop, &mut metrics)
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

/// Events, the tensors of the last checkpoint, and the rest of it.
type Remains = (Vec<Event>, Vec<(String, Tensor)>, String);

/// Everything a finished run has left.
fn remains(folder: &Path) -> TestResult<Remains> {
    let events = without_times(&read_events(&folder.join("metrics.jsonl"))?);
    let checkpoints = Checkpoints::new(folder.join("checkpoints"), 3);
    let last = checkpoints.newest()?.ok_or("no checkpoint")?;
    let mut tensors = Tensor::read_safetensors(last.join("tensors.safetensors"))?;
    tensors.sort_by(|left, right| left.0.cmp(&right.0));
    Ok((events, tensors, std::fs::read_to_string(last.join("state.json"))?))
}

fn expect_same(found: &Path, expected: &Path) -> TestResult {
    let ((events, tensors, state), (whole, all, complete)) = (remains(found)?, remains(expected)?);
    assert_eq!(events, whole);
    assert_eq!(state, complete);
    expect_equal(&tensors, &all);
    Ok(())
}

/// The same tensors under the same names, bit for bit.
fn expect_equal(found: &[(String, Tensor)], expected: &[(String, Tensor)]) {
    assert_eq!(found.len(), expected.len());
    for ((name, tensor), (other, expected)) in found.iter().zip(expected) {
        assert_eq!(name, other);
        assert!(tensor.equal(expected), "{name}");
    }
}

const CHILD: &str = "OFB_TEST_KILLED_RUN";

/// Not a test of its own: what [`killed_at_any_moment`] starts and kills. Without the folder in
/// the environment there is nothing to do.
#[test]
fn child_of_the_kill_test() -> TestResult {
    let Some(folder) = std::env::var_os(CHILD) else { return Ok(()) };
    assert_eq!(go(Path::new(&folder), &never())?, Ending::Done);
    Ok(())
}

/// Runs the child for at most so long, then kills it (SIGKILL). Whether it ended by itself.
fn child(folder: &Path, most: Duration) -> TestResult<bool> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "child_of_the_kill_test"])
        .env(CHILD, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            assert!(status.success(), "the child failed: {status}");
            return Ok(true);
        }
        if started.elapsed() >= most {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills a run at random moments until so many kills are done (20, or OFB_KILLS), each run beginning
/// anew when it is through; every one ends with the weights, scores, α, decisions and metrics of the
/// run that nobody disturbed, across fade-outs, cuts and the end of the search.
#[test]
fn killed_at_any_moment() -> TestResult {
    let _alone = alone();
    let wanted = match std::env::var("OFB_KILLS") {
        Ok(number) => number.parse()?,
        Err(_) => 20u32,
    };
    let undisturbed = tempfile::tempdir()?;
    let started = Instant::now();
    assert!(child(undisturbed.path(), Duration::MAX)?);
    let whole = started.elapsed();
    let mut kills = 0;
    // A few bits of the clock choose the moments: every run of the test tries others.
    let mut random =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_nanos() as u64;
    while kills < wanted {
        let folder = tempfile::tempdir()?;
        loop {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let share = (random >> 33) as f64 / f64::from(1u32 << 31);
            if child(folder.path(), whole.mul_f64(if kills < wanted { 0.7 * share } else { 1e3 }))?
            {
                break;
            }
            kills += 1;
        }
        expect_same(folder.path(), undisturbed.path())?;
    }
    Ok(())
}

#[test]
fn a_run_that_is_asked_to_stop_saves_and_goes_on() -> TestResult {
    let _alone = alone();
    let (stopped, undisturbed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    assert_eq!(go(undisturbed.path(), &never())?, Ending::Done);
    let stop = AtomicBool::new(true);
    // Asked before every step: one step a start.
    let mut starts = 0;
    while go(stopped.path(), &stop)? == Ending::Stopped {
        starts += 1;
        if starts == 5 {
            stop.store(false, Ordering::Relaxed);
        }
    }
    assert_eq!(starts, 5);
    // It saved at other times; all else is the same.
    let (mut events, tensors, state) = remains(stopped.path())?;
    let (mut whole, all, complete) = remains(undisturbed.path())?;
    for events in [&mut events, &mut whole] {
        events.retain(|event| !matches!(event, Event::Checkpoint { .. }));
    }
    assert_eq!(events, whole);
    assert_eq!(state, complete);
    expect_equal(&tensors, &all);
    Ok(())
}

#[test]
fn damaged_checkpoints_are_passed_over_with_their_reason() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let checkpoints = Checkpoints::new(folder.path(), 5);
    let mut session = fresh()?;
    let mut saved = Vec::new();
    for step in 0..5 {
        session.step(&[batch(step)?], &mut |_: &Event| Ok(()))?;
        saved.push(checkpoints.save(&session)?);
    }
    let edit = |which: usize, from: &str, to: &str| -> TestResult {
        let path = saved[which].join("state.json");
        let text = std::fs::read_to_string(&path)?;
        assert!(text.contains(from), "{from}");
        Ok(std::fs::write(&path, text.replace(from, to))?)
    };
    // Half copied, of a newer version, foreign, without its tensors.
    let tensors = saved[4].join("tensors.safetensors");
    let bytes = std::fs::read(&tensors)?;
    std::fs::write(&tensors, &bytes[..bytes.len() / 2])?;
    edit(3, "\"version\": 1", "\"version\": 2")?;
    edit(2, "once-for-both/checkpoint", "another/checkpoint")?;
    std::fs::remove_file(saved[1].join("tensors.safetensors"))?;
    let resumed = checkpoints.resume::<VitConfig>(test_device())?.ok_or("nothing")?;
    assert_eq!(resumed.session.steps_done(), 1);
    let reasons: Vec<String> = resumed.refused.iter().map(|(_, why)| why.to_string()).collect();
    for (reason, part) in reasons.iter().zip(["tensors", "version 2", "format another", "read"]) {
        assert!(reason.contains(part), "{reason}, expected {part}");
    }
    assert_eq!(reasons.len(), 4);
    // With none left, the reason of the newest.
    std::fs::remove_file(saved[0].join("state.json"))?;
    assert_refused!(checkpoints.resume::<VitConfig>(test_device()), Error::File { path, .. } if path == tensors);
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written_stops_the_run_and_keeps_the_last_checkpoint() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("checkpoints");
    let mut session = fresh()?;
    session.step(&[batch(0)?], &mut |_: &Event| Ok(()))?;
    let good = Checkpoints::new(&place, 2).save(&session)?;
    let before = std::fs::read(good.join("tensors.safetensors"))?;
    // Where the next checkpoint would be put together there is a file.
    std::fs::write(place.join(".step-00000002.partial"), "in the way")?;
    let mut run = Run::new(session, Checkpoints::new(&place, 2), 1)?;
    let mut batches = |step| Ok(vec![batch(step).map_err(in_words)?]);
    let ended = run.drive(&mut batches, &never(), &mut |_: &Event| Ok(()));
    assert_refused!(ended, Error::Io { .. });
    assert_eq!(std::fs::read(good.join("tensors.safetensors"))?, before);
    let resumed =
        Checkpoints::new(&place, 2).resume::<VitConfig>(test_device())?.ok_or("nothing")?;
    assert_eq!(resumed.session.steps_done(), 1);
    Ok(())
}

#[test]
fn the_best_state_is_kept_apart() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let checkpoints = Checkpoints::new(folder.path(), 1);
    let mut session = fresh()?;
    for (step, (top1, better)) in [(0.5, true), (0.4, false), (0.6, true)].into_iter().enumerate() {
        session.step(&[batch(step as u64)?], &mut |_: &Event| Ok(()))?;
        checkpoints.save(&session)?;
        assert_eq!(checkpoints.save_best(&session, top1)?, better);
    }
    let best = Search::<VitConfig>::resume(&checkpoints.best(), test_device())?;
    assert_eq!(best.steps_done(), 3);
    Ok(())
}

/// A batch of a step, its images not finite where `poisoned`.
fn poisoned(step: u64, poisoned: bool) -> Result<Batch> {
    let batch = batch(step).map_err(in_words)?;
    let images = if poisoned { batch.images * f64::NAN } else { batch.images };
    let Targets::Classes(classes) = batch.targets else { return Ok(Batch { images, ..batch }) };
    Ok(Batch { images, targets: Targets::Classes(classes), hidden: None })
}

#[test]
fn a_step_that_is_not_finite_moves_nothing_and_is_counted() -> TestResult {
    let _alone = alone();
    let mut session = fresh()?;
    let mut events = Vec::new();
    let mut record = |event: &Event| {
        events.push(event.clone());
        Ok(())
    };
    session.step(&[poisoned(0, false)?], &mut record)?;
    let state = |session: &Search<VitConfig>| -> TestResult<Vec<Vec<f64>>> {
        let supernet = session.supernet();
        let learned = supernet.states().iter().flat_map(|s| [&s.score, &s.alpha]);
        let weights = supernet.raw_weights();
        learned.chain(weights.values()).map(numbers).collect()
    };
    let before = state(&session)?;
    session.step(&[poisoned(1, true)?], &mut record)?;
    assert_eq!(state(&session)?, before);
    session.step(&[poisoned(2, false)?], &mut record)?;
    assert_ne!(state(&session)?, before);
    let guards: Vec<_> = events.iter().filter(|e| matches!(e, Event::NonFinite { .. })).collect();
    assert_eq!(
        guards,
        [&Event::NonFinite { step: 2, skipped: 1, in_a_row: 1, action: NonFiniteAction::Skipped }]
    );
    let last = events.iter().rev().find_map(|event| match event {
        Event::Step(metrics) => Some(metrics.skipped),
        _ => None,
    });
    assert_eq!(last, Some(1));
    Ok(())
}

/// Scores that follow the gradient are not poisoned by it either.
#[test]
fn importances_that_follow_a_step_wait_when_it_is_skipped() -> TestResult {
    let _alone = alone();
    for importance in [
        UnitImportance::Taylor { mean: 2.0, std: 0.5, momentum: 0.5 },
        UnitImportance::Magnitude { mean: 2.0, std: 0.5 },
    ] {
        let mut session = session_with(SearchOptions { importance, ..options() }, 0.5, Method::of)?;
        let scores = |session: &Search<VitConfig>| -> TestResult<Vec<Vec<f64>>> {
            session.supernet().states().iter().map(|state| numbers(&state.score)).collect()
        };
        session.step(&[poisoned(0, false)?], &mut |_: &Event| Ok(()))?;
        let before = scores(&session)?;
        session.step(&[poisoned(1, true)?], &mut |_: &Event| Ok(()))?;
        assert_eq!(scores(&session)?, before, "{importance:?}");
        session.step(&[poisoned(2, false)?], &mut |_: &Event| Ok(()))?;
        let after = scores(&session)?;
        assert!(after != before && after.iter().flatten().all(|s| s.is_finite()));
    }
    Ok(())
}

/// Bad batches that are good the second time: back to the checkpoint, and the run ends as the one
/// that never saw them. Bad again: it is stopped.
#[test]
fn too_many_in_a_row_go_back_once_and_then_stop() -> TestResult {
    let _alone = alone();
    for forever in [false, true] {
        let folder = tempfile::tempdir()?;
        let checkpoints = || Checkpoints::new(folder.path().join("checkpoints"), 3);
        let mut metrics = MetricsFile::open(folder.path().join("metrics.jsonl"), 0)?;
        let mut run = Run::new(fresh()?, checkpoints(), 4)?;
        let mut bad = 0;
        let mut batches = |step: u64| {
            let now = (9..20).contains(&step) && (forever || bad < 6);
            bad += u32::from(now);
            Ok(vec![poisoned(step, now)?])
        };
        let ended = run.drive(&mut batches, &never(), &mut metrics);
        let events = read_events(&folder.path().join("metrics.jsonl"))?;
        let went_back = Event::NonFinite {
            step: 8,
            skipped: 5,
            in_a_row: 5,
            action: NonFiniteAction::RolledBack,
        };
        assert!(events.contains(&went_back), "{events:?}");
        if forever {
            assert_refused!(ended, Error::Diverged { step: 13, in_a_row: 5 });
            let stopped = events.iter().any(|event| {
                matches!(event, Event::NonFinite { action: NonFiniteAction::Stopped, .. })
            });
            assert!(stopped, "{events:?}");
            assert_eq!(
                checkpoints()
                    .resume::<VitConfig>(test_device())?
                    .ok_or("none")?
                    .session
                    .steps_done(),
                8
            );
            continue;
        }
        assert_eq!(ended?, Ending::Done);
        // The sixth bad batch came when step 9 was done anew; all others were good then.
        let steps: Vec<u64> = events
            .iter()
            .filter_map(|event| match event {
                Event::Step(metrics) => Some(metrics.step),
                _ => None,
            })
            .collect();
        let expected: Vec<u64> = (0..STEPS).filter(|&step| step != 9).collect();
        assert_eq!(steps, expected);
    }
    Ok(())
}

#[test]
fn a_run_without_an_interval_is_refused() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let refused = Run::new(fresh()?, Checkpoints::new(folder.path(), 1), 0).map(drop);
    assert_refused!(refused, Error::Invalid { .. });
    Ok(())
}

/// A checkpoint between two logged steps keeps what is still to be told, resumed or not.
#[test]
fn skipped_steps_are_told_though_a_checkpoint_came_between() -> TestResult {
    let _alone = alone();
    let guards = |events: &[Event]| -> Vec<Event> {
        events.iter().filter(|event| matches!(event, Event::NonFinite { .. })).cloned().collect()
    };
    let expected =
        [Event::NonFinite { step: 5, skipped: 1, in_a_row: 0, action: NonFiniteAction::Skipped }];
    for resumed in [false, true] {
        let folder = tempfile::tempdir()?;
        let sparse = SearchOptions { log_interval: 4, ..options() };
        let session = session_with(sparse, 0.5, Method::of)?;
        let mut run = Run::new(session, Checkpoints::new(folder.path(), 2), 3)?;
        let mut events = Vec::new();
        let stop = AtomicBool::new(false);
        let mut batches = |step: u64| {
            // Asked after the checkpoint at 3.
            stop.store(resumed && step == 3, Ordering::Relaxed);
            Ok(vec![poisoned(step, step == 1)?])
        };
        let mut record = |event: &Event| {
            events.push(event.clone());
            Ok(())
        };
        let mut ended = run.drive(&mut batches, &stop, &mut record)?;
        if resumed {
            assert_eq!(ended, Ending::Stopped);
            let again = Checkpoints::new(folder.path(), 2);
            let session = again.resume::<VitConfig>(test_device())?.ok_or("nothing")?.session;
            ended = Run::new(session, again, 3)?.drive(&mut batches, &never(), &mut record)?;
        }
        assert_eq!(ended, Ending::Done);
        assert_eq!(guards(&events), expected, "resumed: {resumed}");
    }
    Ok(())
}
