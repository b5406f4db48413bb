//! Starts the ranks of a group as processes of this test program.

use super::TestResult;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{channel, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a rank does; see `rank_of_a_group`.
pub const CASE: &str = "OFB_TEST_RANK";
/// Time limit of the group in milliseconds.
pub const LIMIT: &str = "OFB_TEST_TIME_LIMIT";
/// Begins each line that a rank prints.
const MARK: &str = "rank says ";
/// Longer than any rank takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A rank that runs, or has ended.
pub struct Rank {
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

/// What a rank left behind.
pub struct Remains {
    pub status: ExitStatus,
    pub lines: Vec<String>,
    /// What it wrote to standard error.
    pub errors: String,
}

/// Prints a line for [`Rank::next`].
pub fn say(line: &str) {
    println!("\n{MARK}{line}");
}

/// A command that runs this program as a rank.
pub fn rank_command(program: &str, case: &str) -> Command {
    let mut command = Command::new(program);
    command.env(CASE, case).env("OMP_NUM_THREADS", "1").env_remove("LOCAL_RANK");
    for variable in ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"] {
        command.env_remove(variable);
    }
    command
}

/// Path and arguments that start this program as a rank.
pub fn program() -> TestResult<(String, [&'static str; 3])> {
    let path = std::env::current_exe()?.into_os_string().into_string();
    Ok((
        path.map_err(|_| "path of the test program")?,
        ["--exact", "rank_of_a_group", "--nocapture"],
    ))
}

/// A port that is free, below those that the system gives to connections.
pub fn free_port() -> TestResult<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let free = (0..1000).find_map(|_| {
        let next = std::process::id() * 37 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (next % 12_000) as u16;
        TcpListener::bind(("0.0.0.0", port)).ok().map(|_| port)
    });
    Ok(free.ok_or("no free port")?)
}

impl Rank {
    /// Starts one rank with the variables of torchrun and others.
    pub fn start(case: &str, variables: &[(&str, String)]) -> TestResult<Self> {
        let (path, arguments) = program()?;
        let mut command = rank_command(&path, case);
        command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        Self::of(command)
    }

    /// Starts a command whose output is that of ranks.
    pub fn of(mut command: Command) -> TestResult<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stderr = child.stderr.take().ok_or("no errors")?;
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(MARK) {
                    let _ = sender.send(said.to_string());
                }
            }
        });
        Ok(Self { child, lines, errors: Some(errors) })
    }

    /// The next line that the rank says.
    pub fn next(&self) -> TestResult<String> {
        Ok(self.lines.recv_timeout(PATIENCE)?)
    }

    /// Whether it has not ended yet.
    pub fn runs(&mut self) -> TestResult<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    pub fn signal(&self, signal: &str) -> TestResult {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status()?;
        assert!(done.success(), "kill {signal}: {done}");
        Ok(())
    }

    /// Waits for the end.
    pub fn end(mut self) -> TestResult<Remains> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let lines = self.lines.iter().collect();
                let errors = self.errors.take().and_then(|errors| errors.join().ok());
                return Ok(Remains { status, lines, errors: errors.unwrap_or_default() });
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!(
                    "a rank does not end: {:?}",
                    self.lines.try_iter().collect::<Vec<_>>()
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Rank {
    /// No rank outlives a test that failed.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl std::fmt::Display for Remains {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{}, {:?}: {}", self.status, self.lines, self.errors)
    }
}

impl Remains {
    /// The lines of a rank that succeeded.
    pub fn success(&self) -> &[String] {
        assert!(self.status.success(), "{self}");
        &self.lines
    }

    /// The last line, of a rank that failed as it should: by an error, not by a signal.
    pub fn error(&self) -> TestResult<&str> {
        const TEST_FAILED: i32 = 101;
        assert_eq!(self.status.code(), Some(TEST_FAILED), "{self}");
        Ok(self.lines.last().ok_or("a rank said nothing")?)
    }
}

/// Variables of rank `rank` of a group of `world_size` at a port of this machine.
pub fn variables(rank: usize, world_size: usize, port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("RANK", rank.to_string()),
        ("WORLD_SIZE", world_size.to_string()),
        ("MASTER_ADDR", "127.0.0.1".into()),
        ("MASTER_PORT", port.to_string()),
    ]
}

/// Starts all ranks of a group with a time limit in milliseconds.
pub fn start_all(case: &str, world_size: usize, limit: u64) -> TestResult<Vec<Rank>> {
    let port = free_port()?;
    let start = |rank| {
        let mut variables = variables(rank, world_size, port);
        variables.push((LIMIT, limit.to_string()));
        Rank::start(case, &variables)
    };
    (0..world_size).map(start).collect()
}
