//! Work that must not hold a process longer than a time limit.

use std::sync::mpsc;
use std::time::Duration;

/// Runs `work` on a thread of its own and returns its result; none at the limit, after which the thread
/// goes on alone. c10d waits without a limit for a machine that stopped.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let run = move || {
        // Nobody listens any more after the limit.
        let _ = sender.send(work());
    };
    std::thread::Builder::new().spawn(run).ok()?;
    receiver.recv_timeout(limit).ok()
}
