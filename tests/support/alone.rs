//! Tests that run in a process of their own, whose peak memory is theirs alone.

use super::TestResult;
use std::ffi::OsStr;
use std::process::Command;

/// Result of a test in a process of its own.
#[derive(Debug)]
pub struct Alone {
    /// What the test printed.
    pub output: String,
    /// Growth of memory during `measured`, in MB.
    pub megabytes: f64,
}

/// Runs an ignored test of this program in a process of its own. It has to call `measured`.
pub fn run_alone(test: &str, environment: &[(&str, &OsStr)]) -> TestResult<Alone> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .envs(environment.iter().copied())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("peak "));
    match line {
        Some(kilobytes) if output.status.success() => {
            Ok(Alone { megabytes: kilobytes.parse::<f64>()? / 1000.0, output: text })
        }
        _ => Err(format!("{test}: {text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Runs `work` and prints by how much the peak of the process's memory grew.
pub fn measured<T>(work: impl FnOnce() -> T) -> TestResult<T> {
    let peak = || -> TestResult<u64> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        Ok(line.ok_or("no VmHWM")?.trim().trim_end_matches(" kB").parse()?)
    };
    // Sets the peak to what is in use.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = peak()?;
    let result = work();
    println!("\npeak {}", peak()? - before);
    Ok(result)
}
