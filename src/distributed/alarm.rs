//! The message of a rank that failed, which reaches the others through the group's store.

use super::bounded::within;
use super::c10d::Store;
use crate::error::DistributedError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Key of the first message.
const MESSAGE: &str = "alarm";
/// Counts the ranks that have read the message of another.
const HEARD: &str = "alarm/heard";
/// How long one wait for the message takes; a group that ended is noticed after it.
const SLICE: Duration = Duration::from_secs(5);
/// How long a rank that hosts the store stays for the others to read a message.
const STAY: Duration = Duration::from_secs(1);

/// Leaves and receives the message of the first rank that failed. A thread with a connection of its own
/// waits for it.
#[derive(Debug)]
pub(super) struct Alarm {
    rank: usize,
    world_size: usize,
    /// Whether the store ends with this process.
    hosts: bool,
    store: Arc<Store>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    message: Option<(usize, String)>,
    /// Whether no message can come: the store is gone, or the group ended.
    over: bool,
    /// Whether this rank has stayed for the others to read the message.
    stayed: bool,
}

impl Alarm {
    /// How long a message is waited for that a rank left before it closed its connections.
    pub const ON_ITS_WAY: Duration = Duration::from_millis(300);

    /// Begins to wait for a message. `listening` is a connection of its own, since it waits.
    pub fn new(
        rank: usize,
        world_size: usize,
        hosts: bool,
        store: Arc<Store>,
        listening: Store,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let listener = shared.clone();
        // Without the thread, messages of other ranks are not read: their failure still is noticed.
        let _ = std::thread::Builder::new()
            .name("alarm".into())
            .spawn(move || listener.listen(rank, &listening));
        Self { rank, world_size, hosts, store, shared }
    }

    /// Returns the error of a rank that failed, if one left a message.
    pub fn raised(&self) -> Option<DistributedError> {
        self.shared.lock().raised()
    }

    /// As [`raised`](Self::raised), and waits up to `limit` for a message that is on its way.
    pub fn raised_within(&self, limit: Duration) -> Option<DistributedError> {
        let waiting = |state: &mut State| state.message.is_none() && !state.over;
        let state = self.shared.changed.wait_timeout_while(self.shared.lock(), limit, waiting);
        let (state, _) = state.unwrap_or_else(PoisonError::into_inner);
        state.raised()
    }

    /// Leaves a message for the other ranks, unless another rank was first. A rank that hosts the store
    /// stays until the others have read it, or a second has passed.
    pub fn raise(&self, message: &str) {
        let message = format!("{}\n{message}", self.rank);
        let store = self.store.clone();
        within(STAY, move || store.set_once(MESSAGE, message.as_bytes()));
        self.stay();
    }

    /// Lets the others read the message, if there is one and the store ends with this process.
    fn stay(&self) {
        if !self.hosts || std::mem::replace(&mut self.shared.lock().stayed, true) {
            return;
        }
        let (store, others) = (self.store.clone(), self.world_size as i64 - 1);
        let end = Instant::now() + STAY;
        within(STAY, move || {
            while Instant::now() < end && store.add(HEARD, 0).is_ok_and(|heard| heard < others) {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let raised = {
            let mut state = self.shared.lock();
            state.over = true;
            state.message.is_some()
        };
        if raised {
            self.stay();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, rank: usize, store: &Store) {
        loop {
            let started = Instant::now();
            let arrived = store.wait(MESSAGE, SLICE).is_ok();
            let message = arrived.then(|| store.get(MESSAGE).ok()).flatten();
            // The store is gone if waiting fails before its limit.
            let gone = message.is_none() && started.elapsed() < SLICE / 2;
            let mut state = self.lock();
            state.over |= gone;
            state.message = message.map(|message| parsed(&message));
            let (over, sender) = (state.over, state.message.as_ref().map(|(rank, _)| *rank));
            drop(state);
            self.changed.notify_all();
            if sender.is_some_and(|sender| sender != rank) {
                // The rank that hosts the store waits for this; without an answer it ends all the same.
                let _ = store.add(HEARD, 1);
            }
            if sender.is_some() || over {
                return;
            }
        }
    }
}

impl State {
    fn raised(&self) -> Option<DistributedError> {
        let (rank, message) = self.message.clone()?;
        Some(DistributedError::Peer { rank, message })
    }
}

fn parsed(message: &[u8]) -> (usize, String) {
    let text = String::from_utf8_lossy(message);
    let (rank, message) = text.split_once('\n').unwrap_or(("", &text));
    (rank.parse().unwrap_or_default(), message.to_string())
}
