//! Runs that are killed, stopped, damaged or diverge: what is resumed, rolled back, refused.

mod run_cases;
mod support;

use once_for_both::batch::Batch;
use once_for_both::components::{Components, UnitImportance};
use once_for_both::models::VitConfig;
use once_for_both::search::{
    read_events, Checkpoints, Event, NonFiniteAction, Outcome, Search, SearchOptions,
};
use once_for_both::{Error, Result};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::tiny_run::{alone, batch, builder, search_with, without_times};
use support::{numbers, test_device, TestResult};
use tch::Tensor;

const STEPS: u64 = 40;
const SEARCH: u64 = 28;

fn options() -> SearchOptions {
    let mut options = SearchOptions::learned(STEPS, SEARCH).seed(3);
    options.log_interval = 1;
    options.pruning.interval = 2;
    options.pruning.fade_out_steps = 3;
    options.optimiser.alpha_rate = Some(0.6);
    options.training.ema_decay = Some(0.9);
    options
}

fn fresh() -> Result<Search<VitConfig>> {
    search_with(options(), 0.5).map_err(in_words)
}

/// A test's error as one of the crate's.
fn in_words(error: Box<dyn std::error::Error>) -> Error {
    Error::Io {
        action: "prepare",
        path: "test".into(),
        source: std::io::Error::other(error.to_string()),
    }
}

/// Resumes the run in a folder, or starts it.
fn go(folder: &Path, stop: &AtomicBool) -> Result<Outcome> {
    let mut search = builder(options(), 0.5).build_or_resume(folder)?.search;
    let mut run = search.run_in(folder)?.keep(3).checkpoint_every(2).stop_when(stop);
    run.train(&mut |step| batch(step).map_err(in_words))
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

/// Events, the tensors of the last checkpoint, and the rest of it.
type Remains = (Vec<Event>, Vec<(String, Tensor)>, String);

/// Events, tensors and state that a finished run left on disk.
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

/// Not a test of its own: what [`run_killed_at_any_moment_resumes_bit_exactly`] starts and kills. Without the folder in
/// the environment there is nothing to do.
#[test]
fn child_of_the_kill_test() -> TestResult {
    let Some(folder) = std::env::var_os(CHILD) else { return Ok(()) };
    let _alone = alone();
    assert_eq!(go(Path::new(&folder), &never())?, Outcome::Finished);
    Ok(())
}

/// Runs the child for at most `most`, then kills it (SIGKILL). Returns whether it ended by itself.
fn child(folder: &Path, most: Duration) -> TestResult<bool> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "child_of_the_kill_test"])
        .env(CHILD, folder)
        // Two threads of a tiny network wait for each other: 131 s instead of 7 s on a busy machine.
        .env("OMP_NUM_THREADS", "1")
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
/// uninterrupted run, across fade-outs, prune steps and the end of the search.
#[test]
fn run_killed_at_any_moment_resumes_bit_exactly() -> TestResult {
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
fn run_stopped_by_its_flag_saves_and_resumes() -> TestResult {
    let _alone = alone();
    let (stopped, undisturbed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    assert_eq!(go(undisturbed.path(), &never())?, Outcome::Finished);
    let stop = AtomicBool::new(true);
    // Asked before every step: one step a start.
    let mut starts = 0;
    while go(stopped.path(), &stop)? == Outcome::Stopped {
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
fn damaged_checkpoints_are_skipped_with_their_reason() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let checkpoints = Checkpoints::new(folder.path(), 5);
    let mut search = fresh()?;
    let mut saved = Vec::new();
    for step in 0..5 {
        search.step(&[batch(step)?], &mut ())?;
        saved.push(checkpoints.save(&search)?);
    }
    let edit = |which: usize, from: &str, to: &str| -> TestResult {
        let path = saved[which].join("state.json");
        let text = std::fs::read_to_string(&path)?;
        assert!(text.contains(from), "{from}");
        Ok(std::fs::write(&path, text.replace(from, to))?)
    };
    // Truncated, of a newer version, of another format, without tensors.
    let tensors = saved[4].join("tensors.safetensors");
    let bytes = std::fs::read(&tensors)?;
    std::fs::write(&tensors, &bytes[..bytes.len() / 2])?;
    edit(3, "\"version\": 3", "\"version\": 4")?;
    edit(2, "once-for-both/checkpoint", "another/checkpoint")?;
    std::fs::remove_file(saved[1].join("tensors.safetensors"))?;
    let resumed = checkpoints.resume::<VitConfig>(test_device())?.ok_or("nothing")?;
    assert_eq!(resumed.search.steps_done(), 1);
    let reasons: Vec<String> = resumed.skipped.iter().map(|(_, why)| why.to_string()).collect();
    for (reason, part) in
        reasons.iter().zip(["tensors", "version: got 4", "format: got another", "read"])
    {
        assert!(reason.contains(part), "{reason}, expected {part}");
    }
    assert_eq!(reasons.len(), 4);
    // With none left, the reason of the newest.
    std::fs::remove_file(saved[0].join("state.json"))?;
    assert_refused!(
        checkpoints.resume::<VitConfig>(test_device()),
        Error::Checksum { path, .. } if path == tensors
    );
    Ok(())
}

#[test]
fn run_that_cannot_write_a_checkpoint_stops_and_keeps_the_last() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("checkpoints");
    let mut search = fresh()?;
    search.step(&[batch(0)?], &mut ())?;
    let good = Checkpoints::new(&place, 2).save(&search)?;
    let before = std::fs::read(good.join("tensors.safetensors"))?;
    // A file is in the way of the next checkpoint's temporary folder.
    std::fs::write(place.join(".step-00000002.partial"), "in the way")?;
    let mut run = search.run(Checkpoints::new(&place, 2)).checkpoint_every(1);
    let ended = run.train(&mut |step| batch(step).map_err(in_words));
    assert_refused!(ended, Error::Io { .. });
    assert_eq!(std::fs::read(good.join("tensors.safetensors"))?, before);
    let resumed =
        Checkpoints::new(&place, 2).resume::<VitConfig>(test_device())?.ok_or("nothing")?;
    assert_eq!(resumed.search.steps_done(), 1);
    Ok(())
}

#[test]
fn checkpoints_of_more_than_eight_digits_are_ordered_by_step() -> TestResult {
    let folder = tempfile::tempdir()?;
    let names = ["step-99999900", "step-100000000", "step-00000042"];
    names.iter().try_for_each(|name| fs::create_dir(folder.path().join(name)))?;
    let checkpoints = Checkpoints::new(folder.path(), 1);
    assert_eq!(checkpoints.newest()?, Some(folder.path().join(names[1])));
    let sorted = [names[2], names[0], names[1]].map(|name| folder.path().join(name));
    assert_eq!(checkpoints.paths()?, sorted);
    Ok(())
}

/// The batch of a step, with images of NaN if `nan`.
fn batch_with_nan(step: u64, nan: bool) -> Result<Batch> {
    let batch = batch(step).map_err(in_words)?;
    let images = if nan { batch.images * f64::NAN } else { batch.images };
    Ok(Batch { images, ..batch })
}

#[test]
fn step_with_a_loss_that_is_not_finite_is_skipped_and_counted() -> TestResult {
    let _alone = alone();
    let mut search = fresh()?;
    let mut events = Vec::new();
    let mut record = |event: &Event| {
        events.push(event.clone());
        Ok(())
    };
    search.step(&[batch_with_nan(0, false)?], &mut record)?;
    let state = |search: &Search<VitConfig>| -> TestResult<Vec<Vec<f64>>> {
        let supernet = search.supernet();
        let learned = supernet.states().iter().flat_map(|s| [&s.score, &s.alpha]);
        let weights = supernet.raw_weights();
        learned.chain(weights.values()).map(numbers).collect()
    };
    let before = state(&search)?;
    search.step(&[batch_with_nan(1, true)?], &mut record)?;
    assert_eq!(state(&search)?, before);
    search.step(&[batch_with_nan(2, false)?], &mut record)?;
    assert_ne!(state(&search)?, before);
    let guards: Vec<_> = events.iter().filter(|e| matches!(e, Event::NonFinite { .. })).collect();
    assert_eq!(guards, [&skipped(2, 1, 1)]);
    let last = events.iter().rev().find_map(|event| match event {
        Event::Step(metrics) => Some(metrics.skipped),
        _ => None,
    });
    assert_eq!(last, Some(1));
    Ok(())
}

/// The event of steps that were not finite because their images hold NaN.
fn not_finite(step: u64, skipped: u64, in_a_row: u64, action: NonFiniteAction) -> Event {
    let pmim = format!("reconstruction loss of {}", Components::default().pmim.id());
    let first = vec!["task loss".into(), pmim];
    Event::NonFinite { step, skipped, in_a_row, action, first, unusable: Vec::new() }
}

fn skipped(step: u64, skipped: u64, in_a_row: u64) -> Event {
    not_finite(step, skipped, in_a_row, NonFiniteAction::Skipped)
}

#[test]
fn importance_that_follows_a_skipped_step_is_unchanged() -> TestResult {
    let _alone = alone();
    for importance in [
        UnitImportance::Taylor { mean: 2.0, std: 0.5, momentum: 0.5 },
        UnitImportance::Magnitude { mean: 2.0, std: 0.5 },
    ] {
        let mut search = builder(options(), 0.5).importance(importance).build()?;
        let scores = |search: &Search<VitConfig>| -> TestResult<Vec<Vec<f64>>> {
            search.supernet().states().iter().map(|state| numbers(&state.score)).collect()
        };
        search.step(&[batch_with_nan(0, false)?], &mut ())?;
        let before = scores(&search)?;
        search.step(&[batch_with_nan(1, true)?], &mut ())?;
        assert_eq!(scores(&search)?, before, "{importance:?}");
        search.step(&[batch_with_nan(2, false)?], &mut ())?;
        let after = scores(&search)?;
        assert!(after != before && after.iter().flatten().all(|s| s.is_finite()));
    }
    Ok(())
}

#[test]
fn time_of_a_step_leaves_out_the_evaluation_before_it() -> TestResult {
    let _alone = alone();
    let mut search = fresh()?;
    let mut times = Vec::new();
    for step in 0..6 {
        let mut record = |event: &Event| {
            if let Event::Step(metrics) = event {
                times.push(metrics.step_ms);
            }
            Ok(())
        };
        search.step(&[batch(step)?], &mut record)?;
        search.evaluate(|_| {
            std::thread::sleep(Duration::from_millis(500));
            Ok(())
        })?;
    }
    // The least, as a busy machine delays single steps; before the first there is no evaluation.
    let least = times.iter().skip(1).copied().fold(f64::INFINITY, f64::min);
    assert!(times.len() == 6 && least < 500.0, "{times:?}");
    Ok(())
}

/// Batches with NaN that are good the second time: the run is rolled back and finishes. With NaN
/// again, it stops.
#[test]
fn run_that_diverges_is_rolled_back_once_and_then_stopped() -> TestResult {
    let _alone = alone();
    for forever in [false, true] {
        let folder = tempfile::tempdir()?;
        let checkpoints = || Checkpoints::new(folder.path().join("checkpoints"), 3);
        let mut search = fresh()?;
        let mut run = search.run_in(folder.path())?.keep(3).checkpoint_every(4);
        let mut bad = 0;
        let mut batches = |step: u64| {
            let now = (9..20).contains(&step) && (forever || bad < 6);
            bad += u32::from(now);
            batch_with_nan(step, now)
        };
        let ended = run.train(&mut batches);
        let events = read_events(&folder.path().join("metrics.jsonl"))?;
        let rolled_back = not_finite(8, 5, 5, NonFiniteAction::RolledBack);
        assert!(events.contains(&rolled_back), "{events:?}");
        if forever {
            assert_refused!(ended, Error::Diverged { step: 13, in_a_row: 5, first } if first[0] == "task loss");
            let stopped = events.iter().any(|event| {
                matches!(event, Event::NonFinite { action: NonFiniteAction::Stopped, .. })
            });
            assert!(stopped, "{events:?}");
            assert_eq!(
                checkpoints()
                    .resume::<VitConfig>(test_device())?
                    .ok_or("none")?
                    .search
                    .steps_done(),
                8
            );
            continue;
        }
        assert_eq!(ended?, Outcome::Finished);
        // The sixth batch with NaN came when step 9 was repeated; all later ones were good.
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

/// As the pipeline evaluates: the evaluations since the checkpoint are removed, that of its own step too.
#[test]
fn run_that_is_rolled_back_is_evaluated_at_every_step_once() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let mut search = fresh()?;
    let mut run = search.run_in(folder.path())?.checkpoint_every(4);
    let mut bad = 0;
    let mut batches = |step: u64| {
        let now = step >= 9 && bad < 5;
        bad += u32::from(now);
        batch_with_nan(step, now)
    };
    while !run.search().is_done() {
        let step = run.search().steps_done();
        if step > 0 && step.is_multiple_of(2) {
            run.emit(&Event::Evaluated { step, top1: 0.5 })?;
        }
        run.train_until((step / 2 + 1) * 2, &mut batches)?;
    }
    let events = read_events(&folder.path().join("metrics.jsonl"))?;
    let evaluated = events.iter().filter_map(|event| match event {
        Event::Evaluated { step, .. } => Some(*step),
        _ => None,
    });
    let expected: Vec<u64> = (1..STEPS / 2).map(|half| 2 * half).collect();
    assert_eq!(evaluated.collect::<Vec<_>>(), expected);
    Ok(())
}

/// Trains a run in a folder whose batches hold NaN from step 9 on, until it is stopped in a step.
fn stop_amid_skipped_steps(folder: &Path, keep: usize, step: u64) -> TestResult {
    let stop = AtomicBool::new(false);
    let mut batches = |number: u64| {
        stop.store(number == step, Ordering::Relaxed);
        batch_with_nan(number, number >= 9)
    };
    let mut search = builder(options(), 0.5).build_or_resume(folder)?.search;
    let mut run = search.run_in(folder)?.keep(keep).checkpoint_every(4).stop_when(&stop);
    assert_eq!(run.train(&mut batches)?, Outcome::Stopped);
    drop(run);
    assert_eq!(search.steps_done(), step + 1);
    Ok(())
}

/// Unusable checkpoints of the rollback to step 8.
fn passed_over(folder: &Path) -> TestResult<Vec<String>> {
    let events = read_events(&folder.join("metrics.jsonl"))?;
    let found = events.into_iter().find_map(|event| match event {
        Event::NonFinite { step: 8, action: NonFiniteAction::RolledBack, unusable, .. } => {
            Some(unusable)
        }
        _ => None,
    });
    Ok(found.ok_or("no rollback")?)
}

/// Runs that are stopped after three skipped steps, and after four, resumed, and diverge at the fifth.
#[test]
fn run_that_was_stopped_amid_skipped_steps_is_rolled_back_to_before_them() -> TestResult {
    let _alone = alone();
    for (keep, stops) in [(2, &[11][..]), (1, &[11]), (2, &[11, 12])] {
        let case = format!("{keep} checkpoints, stopped in {stops:?}");
        let folder = tempfile::tempdir()?;
        let checkpoints = || Checkpoints::new(folder.path().join("checkpoints"), keep);
        stops.iter().try_for_each(|at| stop_amid_skipped_steps(folder.path(), keep, *at))?;
        let mut search = builder(options(), 0.5).build_or_resume(folder.path())?.search;
        let mut bad = 5 - (search.steps_done() - 9);
        let mut batches = |step: u64| {
            let now = bad > 0;
            bad = bad.saturating_sub(1);
            batch_with_nan(step, now)
        };
        let mut run = search.run_in(folder.path())?.keep(keep);
        for expected in [Outcome::RolledBack, Outcome::Reached] {
            assert_eq!(run.train_until(14, &mut batches)?, expected, "{case}");
        }
        drop(run);
        let reasons = passed_over(folder.path())?;
        assert_eq!(reasons.len(), stops.len(), "{case}: {reasons:?}");
        for (reason, at) in reasons.iter().zip(stops.iter().rev()) {
            let expected =
                format!("skipped steps in a row before it: got {}, expected 0", at + 1 - 9);
            assert!(reason.contains(&expected), "{case}: {reason}");
        }
        // As if the run had been killed at step 14: it goes on from before the skipped steps.
        let mut search = builder(options(), 0.5).build_or_resume(folder.path())?.search;
        assert_eq!(search.steps_done(), 8, "{case}");
        let mut run = search.run_in(folder.path())?.keep(keep).checkpoint_every(4);
        run.train_until(13, &mut |step| batch_with_nan(step, false))?;
        drop(run);
        assert_eq!(checkpoints().paths()?.len(), keep, "{case}");
    }
    Ok(())
}

#[test]
fn run_that_is_stopped_while_batches_accumulate_stops_before_the_step() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let many = options().with(|o| o.training.accumulate = 1 << 12);
    let mut search = search_with(many, 0.5)?;
    let stop = AtomicBool::new(false);
    let mut taken = 0;
    let mut batches = |number: u64| {
        taken += 1;
        stop.store(number == 2, Ordering::Relaxed);
        batch(0).map_err(in_words)
    };
    let mut run = search.run(Checkpoints::new(folder.path(), 2)).stop_when(&stop);
    assert_eq!(run.train(&mut batches)?, Outcome::Stopped);
    drop(run);
    assert_eq!((taken, search.steps_done()), (3, 0));
    Ok(())
}

#[test]
fn run_that_is_stopped_before_its_first_step_goes_on() -> TestResult {
    let _alone = alone();
    let twice = options().with(|o| o.training.accumulate = 2);
    let stop = AtomicBool::new(false);
    let mut stopping = |_: u64| {
        stop.store(true, Ordering::Relaxed);
        batch(0).map_err(in_words)
    };
    let folder = tempfile::tempdir()?;
    for resumed in [false, true] {
        let built = builder(twice.clone(), 0.5).build_or_resume(folder.path())?;
        assert_eq!((built.search.steps_done(), built.skipped.len()), (0, 0));
        let mut search = built.search;
        let mut run = search.run_in(folder.path())?.stop_when(&stop);
        stop.store(false, Ordering::Relaxed);
        assert_eq!(run.train(&mut stopping)?, Outcome::Stopped, "resumed: {resumed}");
        stop.store(false, Ordering::Relaxed);
        if resumed {
            assert_eq!(run.train_until(1, &mut |_| batch(0).map_err(in_words))?, Outcome::Reached);
        }
    }
    let checkpoints = || Checkpoints::new(folder.path().join("apart"), 2);
    let mut search = search_with(twice, 0.5)?;
    checkpoints().save(&search)?;
    let mut run = search.run(checkpoints());
    assert_eq!(run.train_until(1, &mut |_| batch(0).map_err(in_words))?, Outcome::Reached);
    Ok(())
}

/// The only checkpoint that can be used is that of step 0.
#[test]
fn run_that_is_rolled_back_to_its_start_goes_on() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let checkpoints = || Checkpoints::new(folder.path(), 3);
    let mut search = fresh()?;
    checkpoints().save(&search)?;
    let mut run = search.run(checkpoints()).checkpoint_every(2);
    assert_eq!(run.train_until(3, &mut |step| batch(step).map_err(in_words))?, Outcome::Reached);
    for file in fs::read_dir(checkpoints().newest()?.ok_or("no checkpoint")?)? {
        fs::write(file?.path(), "damaged")?;
    }
    let mut bad = 0;
    let mut source = |step: u64| {
        bad += 1;
        batch_with_nan(step, bad <= 5)
    };
    for expected in [Outcome::RolledBack, Outcome::Reached] {
        assert_eq!(run.train_until(8, &mut source)?, expected);
    }
    Ok(())
}

/// A checkpoint of a search with another seed is newer than the own one.
#[test]
fn run_that_diverges_is_not_rolled_back_into_another_search() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let mut other = search_with(options().seed(4), 0.5)?;
    for step in 0..3 {
        other.step(&[batch(step)?], &mut ())?;
    }
    let foreign = Checkpoints::new(folder.path(), 3).save(&other)?;
    let mut search = fresh()?;
    search.step(&[batch(0)?], &mut ())?;
    Checkpoints::new(folder.path(), 3).save(&search)?;
    let mut events = Vec::new();
    let record = |event: &Event| {
        events.push(event.clone());
        Ok(())
    };
    let mut bad = 0;
    let mut source = |step: u64| {
        bad += 1;
        batch_with_nan(step, bad <= 5)
    };
    let run = search.run(Checkpoints::new(folder.path(), 3)).checkpoint_every(100);
    let mut run = run.on_event(record);
    for expected in [Outcome::RolledBack, Outcome::Reached] {
        assert_eq!(run.train_until(7, &mut source)?, expected);
    }
    drop(run);
    let unusable = events.iter().find_map(|event| match event {
        Event::NonFinite { step: 1, action: NonFiniteAction::RolledBack, unusable, .. } => {
            Some(unusable)
        }
        _ => None,
    });
    let [reason] = &unusable.ok_or("no rollback")?[..] else { return Err("no reason".into()) };
    assert!(reason.starts_with(&foreign.display().to_string()), "{reason}");
    assert!(reason.contains("options.seed: got 3, expected 4"), "{reason}");
    Ok(())
}

#[test]
fn run_with_images_without_axes_is_refused() -> TestResult {
    let _alone = alone();
    let mut search = fresh()?;
    let mut source = |step: u64| {
        let batch = batch(step).map_err(in_words)?;
        Ok(Batch { images: batch.images.mean(None), ..batch })
    };
    let folder = tempfile::tempdir()?;
    let ended = search.run(Checkpoints::new(folder.path(), 1)).train(&mut source);
    assert_refused!(ended, Error::Invalid { ref name, .. } if name == "shape of the targets");
    Ok(())
}

#[test]
fn run_with_a_checkpoint_interval_of_zero_is_refused() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let mut search = fresh()?;
    let mut run = search.run(Checkpoints::new(folder.path(), 1)).checkpoint_every(0);
    assert_refused!(run.train(&mut |step| batch(step).map_err(in_words)), Error::Invalid { .. });
    Ok(())
}

/// A checkpoint between two logged steps stores the skipped steps that are not reported yet.
#[test]
fn skipped_steps_are_reported_after_a_checkpoint_in_between() -> TestResult {
    let _alone = alone();
    let guards = |events: &[Event]| -> Vec<Event> {
        events.iter().filter(|event| matches!(event, Event::NonFinite { .. })).cloned().collect()
    };
    let expected = [skipped(5, 1, 0)];
    for resumed in [false, true] {
        let folder = tempfile::tempdir()?;
        let sparse = options().with(|o| o.log_interval = 4);
        let mut search = search_with(sparse, 0.5)?;
        let events = std::cell::RefCell::new(Vec::new());
        let stop = AtomicBool::new(false);
        let mut batches = |step: u64| {
            // Asked after the checkpoint at 3.
            stop.store(resumed && step == 3, Ordering::Relaxed);
            batch_with_nan(step, step == 1)
        };
        let record = |event: &Event| {
            events.borrow_mut().push(event.clone());
            Ok(())
        };
        let checkpoints = || Checkpoints::new(folder.path(), 2);
        let run = search.run(checkpoints()).checkpoint_every(3).on_event(record);
        let mut ended = run.stop_when(&stop).train(&mut batches)?;
        if resumed {
            assert_eq!(ended, Outcome::Stopped);
            let resumed = checkpoints().resume::<VitConfig>(test_device())?.ok_or("nothing")?;
            let mut search = resumed.search;
            let mut run = search.run(checkpoints()).checkpoint_every(3).on_event(record);
            ended = run.train(&mut batches)?;
        }
        assert_eq!(ended, Outcome::Finished);
        assert_eq!(guards(&events.borrow()), expected, "resumed: {resumed}");
    }
    Ok(())
}

#[test]
fn run_that_diverges_after_its_last_regular_log_is_refused() -> TestResult {
    let _alone = alone();
    let mut search = builder(options().with(|o| o.log_interval = 10), 0.5).build()?;
    // Step 30 is logged, and the last one, 39.
    let mut source = |step: u64| batch_with_nan(step, step > 30);
    let ended = search.run(Checkpoints::new(tempfile::tempdir()?.path(), 2)).train(&mut source);
    assert_refused!(ended, Error::Diverged { in_a_row, .. } if in_a_row >= 5);
    Ok(())
}
