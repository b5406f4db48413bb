//! Warnings of libtorch, which it prints to standard error.

use super::counters::Counters;
use super::scenarios::batch_of_loader;
use crate::support::TestResult;
use std::process::Command;

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn batch_of_the_loader_prints_no_warning() -> TestResult {
    let name = "simulated_cuda_cases::warnings::batch_of_the_loader_alone";
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", name, "--ignored", "--nocapture"])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("Warning"), "{told}");
    Ok(())
}

/// What the test above runs in a process of its own.
#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn batch_of_the_loader_alone() -> TestResult {
    batch_of_loader(&Counters::new()?).map(drop)
}
