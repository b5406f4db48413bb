//! Work that must not hold a process longer than a time limit, or after another rank has failed.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

/// Runs `work` on a thread of its own and returns its result. Ends with the error of `failed`, which is asked again and
/// again, as soon as there is one; the thread then goes on alone. None where no thread can be started.
pub(super) fn unless<T: Send + 'static, E>(
    failed: impl Fn() -> Option<E>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, E> {
    // After each slice an error is looked for.
    const SLICE: Duration = Duration::from_millis(100);
    let Some(result) = start(work) else { return Ok(None) };
    loop {
        match result.recv_timeout(SLICE) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => failed().map_or(Ok(()), Err)?,
        }
    }
}

/// Runs `work` on a thread of its own and returns its result; none at the limit, after which the thread
/// goes on alone. c10d waits without a limit for a machine that stopped.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    start(work)?.recv_timeout(limit).ok()
}

/// Starts `work` on a thread of its own; `None` where no thread can be started.
fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<Receiver<T>> {
    let (sender, receiver) = mpsc::channel();
    let run = move || {
        // Nobody listens any more after the limit or an error.
        let _ = sender.send(work());
    };
    std::thread::Builder::new().spawn(run).ok()?;
    Some(receiver)
}
