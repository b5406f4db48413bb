//! Ranks that torchrun starts.

use super::ranks::{program, rank_command};
use super::TestResult;
use std::process::Command;

/// Returns a command that starts two ranks of this program by torchrun, with so many restarts. `None`
/// where the Python environment of `make test` has no torch.
pub fn torchrun(case: &str, restarts: usize) -> TestResult<Option<Command>> {
    let Some((python, torch)) = python()? else {
        eprintln!("a test with torchrun is SKIPPED: no Python with torch (scripts/python_env.py)");
        return Ok(None);
    };
    let (path, arguments) = program()?;
    let mut command = rank_command(&python, case);
    let run = "import os, sys; sys.setdlopenflags(os.RTLD_LAZY); \
               from torch.distributed.run import main; main()";
    let restarts = format!("--max-restarts={restarts}");
    command.args(["-c", run, "--standalone", "--nproc-per-node=2", "--monitor-interval=0.1"]);
    command.args([&restarts, "--no-python", &path]).args(arguments).env("PYTHONPATH", torch);
    Ok(Some(command))
}

/// What the Python environment of `make test` has: a Python, and the folder with torch.
fn python() -> TestResult<Option<(String, String)>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/python_env.py");
    let output = Command::new("python3").arg(script).output()?;
    const CANNOT: i32 = 75;
    if output.status.code() == Some(CANNOT) {
        return Ok(None);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut lines = text.lines().map(str::to_string);
    Ok(lines.next().map(|python| (python, lines.next().unwrap_or_default())))
}
