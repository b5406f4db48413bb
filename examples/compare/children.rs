//! Rows measured in processes of one thread each, several at a time.

use crate::bench::Bench;
use crate::family::Network;
use crate::options::Source;
use crate::plan::Run;
use crate::row::Row;
use crate::AnyError;
use once_for_both::models::{SwinConfig, VitConfig};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{mpsc, Mutex, PoisonError};
use std::thread;

/// What a child measures: everything it needs, as JSON in its option `--task`.
#[derive(Serialize, Deserialize)]
struct Task {
    source: Source,
    weights: PathBuf,
    run: Run,
}

/// Measures every run in a process of its own, `jobs` at a time, and hands each result to `finished`
/// as it comes. A child that fails is a result like another.
///
/// The children end with this process, however it ends: each watches its standard input, which closes
/// then. After an error of `finished` no child starts, and the error is returned once those under way
/// have ended.
pub fn measure(
    jobs: u64,
    source: &Source,
    weights: &Path,
    runs: &[Run],
    mut finished: impl FnMut(&Run, Result<Row, AnyError>) -> Result<(), AnyError>,
) -> Result<(), AnyError> {
    let queue = Mutex::new(runs.iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.min(runs.len() as u64) {
            let sender = sender.clone();
            scope.spawn(move || {
                while let Some(run) = next() {
                    let result = in_child(source, weights, run).map_err(|error| error.to_string());
                    // Nobody receives after an error of `finished`.
                    if sender.send((run, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (run, result) in results {
            finished(run, result.map_err(AnyError::from))?;
        }
        Ok(())
    })
}

/// Measures one run in a child.
fn in_child(source: &Source, weights: &Path, run: &Run) -> Result<Row, AnyError> {
    let task = Task { source: source.clone(), weights: weights.into(), run: run.clone() };
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--task", &serde_json::to_string(&task)?])
        .envs([("OMP_NUM_THREADS", "1"), ("MKL_NUM_THREADS", "1")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let alive = child.stdin.take();
    let output = child.wait_with_output()?;
    drop(alive);
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(failure(output.status, told.trim()).into());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let printed = String::from_utf8_lossy(&output.stdout);
        let printed: String = printed.chars().take(200).collect();
        format!("its process: got {error} in its output, expected a row: {printed}").into()
    })
}

/// Says how a child failed: in its own words, if it had any.
fn failure(status: ExitStatus, told: &str) -> String {
    match told.strip_prefix("error: ") {
        Some(error) if status.code().is_some() => error.into(),
        _ => format!("its process ended with {status}: {told}"),
    }
}

/// The work of a child: measures the run of `task` and prints the row.
pub fn work(task: &str) -> Result<(), AnyError> {
    thread::spawn(end_with_parent);
    let Task { source, weights, run } = serde_json::from_str(task)?;
    let row = match Network::stored(&weights)? {
        Network::Vit => Bench::<VitConfig>::open(&source, &weights)?.measure(&run)?,
        Network::Swin => Bench::<SwinConfig>::open(&source, &weights)?.measure(&run)?,
    };
    println!("{}", serde_json::to_string(&row)?);
    Ok(())
}

/// Waits until standard input closes, which the parent holds open as long as it lives.
fn end_with_parent() {
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    std::process::exit(1);
}
