//! Processes with a time limit, while whose run the memory of the device is watched.

use crate::memory::{Peak, Watch};
use crate::options::Options;
use crate::AnyError;
use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the end of a process is looked for.
const PAUSE: Duration = Duration::from_millis(20);
/// Lines that are kept of what a failed process said.
const LINES: usize = 60;
/// Characters that are kept of each of them.
const WIDTH: usize = 300;

/// A process that has ended.
pub struct Child {
    /// Standard output.
    pub output: String,
    /// Memory of the device; `None` for the CPU.
    pub peak: Option<Peak>,
    /// How it ended and the last lines that it printed, if it failed.
    pub failure: Option<String>,
}

impl Child {
    /// Runs a command to its end, or to the time limit.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(mut command: Command, options: &Options) -> Result<Self, AnyError> {
        let (mut output, mut errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
        // A group of its own: what the command starts ends with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let watch = Watch::start(&options.device);
        let status = ended(command, options.time_limit());
        let peak = watch.end();
        let (output, errors) = (text(&mut output)?, text(&mut errors)?);
        let failure = match status? {
            Some(status) if status.success() => None,
            Some(status) => Some(status.to_string()),
            None => Some(format!("ended after {} s, the option --limit", options.limit)),
        };
        let failure = failure
            .map(|failure| format!("{failure}\n{}", last_lines(&format!("{output}\n{errors}"))));
        Ok(Self { output, peak, failure })
    }

    /// Returns the process if it ended well.
    ///
    /// # Errors
    /// Its failure.
    pub fn succeeded(self) -> Result<Self, AnyError> {
        match self.failure {
            None => Ok(self),
            Some(failure) => Err(failure.into()),
        }
    }
}

/// Waits for the end of a command; `None` if it was ended at the limit.
fn ended(mut command: Command, limit: Duration) -> Result<Option<ExitStatus>, AnyError> {
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > limit {
            // The group, then the process itself where there are no groups.
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            let _ = child.kill();
            child.wait()?;
            return Ok(None);
        }
        sleep(PAUSE);
    }
}

fn text(file: &mut File) -> Result<String, AnyError> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let short = |line: &&str| line.chars().take(WIDTH).collect::<String>();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().map(short).collect::<Vec<_>>().join("\n")
}
