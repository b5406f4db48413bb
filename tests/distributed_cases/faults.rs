//! A fault of one rank is an error of all, and nothing is torn.

use super::ranks::{start_all, Remains};
use super::TestResult;
use std::path::Path;

/// What two ranks leave of a search with a fault.
fn ranks(fault: &str, folder: &Path) -> TestResult<Vec<Remains>> {
    of_ranks(2, fault, folder)
}

/// What so many ranks leave of a search with a fault.
fn of_ranks(world_size: usize, fault: &str, folder: &Path) -> TestResult<Vec<Remains>> {
    let case = format!("faulty {fault} {}", folder.display());
    start_all(&case, world_size, 60_000)?.into_iter().map(|rank| rank.end()).collect()
}

/// The errors of both ranks.
fn errors(fault: &str) -> TestResult<[String; 2]> {
    let folder = tempfile::tempdir()?;
    let ended = ranks(fault, folder.path())?;
    Ok([ended[0].error()?.to_string(), ended[1].error()?.to_string()])
}

fn expect_both(fault: &str, expected: &str) -> TestResult {
    for error in errors(fault)? {
        assert!(error.contains(expected), "{fault}: {error}");
    }
    Ok(())
}

#[test]
fn ranks_with_other_options_are_refused_with_the_first_that_differs() -> TestResult {
    expect_both("seed", "options.seed of rank 1: got 4, expected 3 as on rank 0")
}

#[test]
fn ranks_with_other_weights_are_refused_with_the_first_that_differs() -> TestResult {
    expect_both("weights", "after step 0, head.bias differs between rank 0 and rank 1")
}

#[test]
fn parameter_that_drifts_apart_is_named_at_the_next_decision() -> TestResult {
    expect_both("drift", "after step 4, ")?;
    expect_both("drift", " differs between rank 0 and rank 1")
}

#[test]
fn batch_that_the_ranks_cannot_share_is_refused() -> TestResult {
    expect_both("share", "batch of 7 images over 2 processes: got 7, expected a multiple of 2")
}

#[test]
fn ranks_that_load_the_whole_batch_are_refused_before_the_first_step() -> TestResult {
    expect_both("whole", "got 16, expected different images on every rank: ranks 0 and 1")?;
    expect_both("whole", "Loader::share")?;
    expect_both("whole", "repeats (Order::Shuffled) need random augmentation")
}

#[test]
fn ranks_with_unequal_numbers_of_images_are_refused_before_a_checkpoint() -> TestResult {
    let folder = tempfile::tempdir()?;
    for remains in ranks("images", folder.path())? {
        let error = remains.error()?;
        assert!(error.contains("got 7, expected as many on every rank"), "{error}");
    }
    assert!(!folder.path().join("checkpoints/step-00000002").exists());
    Ok(())
}

#[test]
fn ranks_with_unequal_numbers_of_images_are_refused_without_a_run_or_with_an_equal_mean(
) -> TestResult {
    expect_both("images_without_run", "got 8, expected as many on every rank")?;
    let folder = tempfile::tempdir()?;
    for remains in of_ranks(3, "three_shares", folder.path())? {
        let error = remains.error()?;
        assert!(error.contains("got 12, expected as many on every rank"), "{error}");
    }
    Ok(())
}

#[test]
fn ranks_on_devices_of_other_types_are_refused() -> TestResult {
    expect_both("device", "device of rank 1: got \"cuda\", expected \"cpu\" as on rank 0")
}

#[test]
fn error_of_nccl_on_one_rank_is_that_of_every_rank() -> TestResult {
    let [main, own] = errors("nccl")?;
    assert!(own.contains("NCCL for tensors on cuda:1: no library"), "{own}");
    assert!(main.contains("rank 1 failed: NCCL for tensors on cuda:1: no library"), "{main}");
    Ok(())
}

#[test]
fn listener_that_fails_on_rank_0_ends_all_ranks_with_its_error() -> TestResult {
    for fault in ["rollback", "emit"] {
        let [main, own] = errors(fault)?;
        assert!(main.contains("events: disk full"), "{fault}: {main}");
        assert!(own.contains("rank 0 failed: events: disk full"), "{fault}: {own}");
    }
    Ok(())
}

#[test]
fn error_of_a_source_of_batches_is_that_of_every_rank() -> TestResult {
    let [main, own] = errors("source")?;
    assert!(own.ends_with("shard-7.tar: torn"), "{own}");
    assert!(main.contains("rank 1 failed: shard-7.tar: torn"), "{main}");
    Ok(())
}

#[test]
fn step_that_is_not_finite_on_one_rank_is_skipped_by_all() -> TestResult {
    let folder = tempfile::tempdir()?;
    let ended = ranks("nan", folder.path())?;
    let [main, own] = [&ended[0], &ended[1]].map(Remains::success);
    assert_eq!(main, own);
    assert!(main[0].starts_with("step 3: 1 skipped: "), "{main:?}");
    assert!(main.len() == 2 && !main[1].contains("NaN"), "{main:?}");
    Ok(())
}

#[test]
fn rank_that_is_told_to_stop_stops_all_with_a_checkpoint() -> TestResult {
    let folder = tempfile::tempdir()?;
    for remains in ranks("stop", folder.path())? {
        assert_eq!(remains.success(), ["stopped after 1"]);
    }
    assert!(folder.path().join("checkpoints/step-00000001/state.json").is_file());
    Ok(())
}

#[test]
fn checkpoint_that_cannot_be_written_ends_all_ranks_with_its_error() -> TestResult {
    let [main, own] = errors("unwritable")?;
    assert!(main.contains("checkpoints"), "{main}");
    assert!(own.contains("rank 0 failed: ") && own.contains("checkpoints"), "{own}");
    Ok(())
}
