//! Runs of a group that are resumed: with another number of processes, and after a rank was killed.

use super::equality::expect_close;
use super::ranks::{say, start_all, Rank};
use super::searches::{builder, share_of_images};
use super::torchrun::torchrun;
use super::TestResult;
use once_for_both::distributed::{Collective, Share};
use once_for_both::search::SearchOptions;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::Tensor;

/// Steps of the search.
const STEPS: u64 = 20;
/// Images of a batch, for two ranks and for three.
const IMAGES: i64 = 12;
/// A search whose steps have two batches each.
const ACCUMULATED: &str = "accumulated";
/// Kills without `OFB_KILLS`.
const KILLS: u32 = 3;

/// Begins or resumes a run of a search in a folder, and goes on to a step. A rank says its process's number.
pub fn run(name: &str, step: u64, folder: &Path, group: &Arc<dyn Collective>) -> TestResult {
    say(&std::process::id().to_string());
    // The first steps mask no token, so that the decoder has no gradients yet.
    let late_masks = |options: &mut SearchOptions| {
        if let Some(pmim) = options.pmim.as_mut().filter(|_| name == "paper") {
            pmim.mask_ratio.start = 0.0;
        }
    };
    let mut search = builder(name, group, late_masks)?.build_or_resume(folder)?.search;
    let share = Share::of(&**group);
    let mut run = search.run_in(folder)?.checkpoint_every(2);
    run.train_until(step, &mut |number| share_of_images(IMAGES, number, share))?;
    Ok(())
}

/// Tensors of the last checkpoint.
fn end(folder: &Path) -> TestResult<BTreeMap<String, Tensor>> {
    let file = folder.join(format!("checkpoints/step-{STEPS:08}/tensors.safetensors"));
    Ok(Tensor::read_safetensors(file)?.into_iter().collect())
}

/// Runs a search in so many processes to a step.
fn until(name: &str, step: u64, world_size: usize, folder: &Path) -> TestResult {
    let case = format!("run {name} {step} {}", folder.display());
    for rank in start_all(&case, world_size, 60_000)? {
        rank.end()?.success();
    }
    Ok(())
}

#[test]
fn run_resumed_by_other_numbers_of_processes_is_the_same_run() -> TestResult {
    let (alone, changing) = (tempfile::tempdir()?, tempfile::tempdir()?);
    until(ACCUMULATED, STEPS, 1, alone.path())?;
    for (step, world_size) in [(6, 1), (14, 2), (STEPS, 1)] {
        until(ACCUMULATED, step, world_size, changing.path())?;
    }
    expect_close("resumed", &end(alone.path())?, &end(changing.path())?);
    Ok(())
}

/// Sums over three ranks are rounded by their order, and this search sums during the backward pass. It is resumed after
/// the first step with masked tokens.
#[test]
fn run_of_three_ranks_that_is_resumed_ends_with_the_same_bits() -> TestResult {
    let (undisturbed, resumed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    until("paper", STEPS, 3, undisturbed.path())?;
    for step in [3, STEPS] {
        until("paper", step, 3, resumed.path())?;
    }
    expect_same_bits("resumed", &end(resumed.path())?, &end(undisturbed.path())?);
    Ok(())
}

fn expect_same_bits(
    when: &str,
    found: &BTreeMap<String, Tensor>,
    expected: &BTreeMap<String, Tensor>,
) {
    assert!(found.keys().eq(expected.keys()), "{when}");
    for (name, tensor) in found {
        assert!(tensor.equal(&expected[name]), "{when}: {name}");
    }
}

/// torchrun restarts both ranks when one is killed; at the end the weights are bit for bit those of a
/// run that nothing disturbed. `make test-long` kills a hundred times.
#[test]
fn run_with_killed_ranks_resumes_under_torchrun_bit_exactly() -> TestResult {
    let wanted = match std::env::var("OFB_KILLS") {
        Ok(number) => number.parse()?,
        Err(_) => KILLS,
    };
    let undisturbed = tempfile::tempdir()?;
    let begin = Instant::now();
    until(ACCUMULATED, STEPS, 2, undisturbed.path())?;
    let (whole, expected) = (begin.elapsed(), end(undisturbed.path())?);
    // A few bits of the clock choose the moments: every run of the test tries others.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let (mut random, mut kills) = (u64::from(now.subsec_nanos()), 0);
    while kills < wanted {
        let folder = tempfile::tempdir()?;
        let case = format!("run {ACCUMULATED} {STEPS} {}", folder.path().display());
        let Some(command) = torchrun(&case, wanted as usize)? else { return Ok(()) };
        let agent = Rank::of(command)?;
        kills += kill_until_it_ends(&agent, wanted - kills, whole, &mut random)?;
        agent.end()?.success();
        expect_same_bits(&format!("after {kills} kills"), &end(folder.path())?, &expected);
    }
    Ok(())
}

/// Kills at most so many of the ranks that an agent starts, each at a random moment of a run; returns
/// how many.
fn kill_until_it_ends(
    agent: &Rank,
    most: u32,
    whole: Duration,
    random: &mut u64,
) -> TestResult<u32> {
    for kills in 0..most {
        let (Ok(first), Ok(second)) = (agent.next(), agent.next()) else { return Ok(kills) };
        *random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let share = (*random >> 33) as f64 / f64::from(1u32 << 31);
        std::thread::sleep(whole.mul_f64(0.8 * share));
        let victim = if *random >> 32 & 1 == 0 { first } else { second };
        let killed = Command::new("kill").args(["-KILL", &victim]).output()?;
        if !killed.status.success() {
            return Ok(kills);
        }
    }
    Ok(most)
}
