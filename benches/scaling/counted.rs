//! A group whose calls are counted.

use once_for_both::distributed::{Collective, Pending};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tch::Tensor;

/// Calls of a group, the bytes given to them by this process, and the time in them.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Counts {
    pub calls: usize,
    pub bytes: usize,
    pub ms: f64,
}

/// A group whose calls are counted.
#[derive(Debug)]
pub struct Counted {
    group: Arc<dyn Collective>,
    counts: Arc<Mutex<Counts>>,
}

/// A counted operation in progress.
#[derive(Debug)]
struct CountedPending(Box<dyn Pending>, Arc<Mutex<Counts>>);

fn add(counts: &Mutex<Counts>, calls: usize, bytes: usize, begin: Instant) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    counts.calls += calls;
    counts.bytes += bytes;
    counts.ms += milliseconds(begin);
}

pub fn bytes_of(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

pub fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

impl Counted {
    pub fn of(group: &Arc<dyn Collective>) -> Self {
        Self { group: Arc::clone(group), counts: Arc::default() }
    }

    fn count<T>(&self, bytes: usize, call: impl FnOnce(&dyn Collective) -> T) -> T {
        let begin = Instant::now();
        let result = call(&*self.group);
        add(&self.counts, 1, bytes, begin);
        result
    }

    /// Returns the counts, and begins again.
    pub fn take(&self) -> Counts {
        std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Collective for Counted {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn world_size(&self) -> usize {
        self.group.world_size()
    }

    fn start_all_reduce(&self, tensor: &Tensor) -> once_for_both::Result<Box<dyn Pending>> {
        let started = self.count(bytes_of(tensor), |group| group.start_all_reduce(tensor))?;
        Ok(Box::new(CountedPending(started, Arc::clone(&self.counts))))
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> once_for_both::Result<()> {
        self.count(bytes_of(tensor), |group| group.broadcast(tensor, root))
    }

    fn all_gather(&self, own: &[u8]) -> once_for_both::Result<Vec<Vec<u8>>> {
        self.count(own.len(), |group| group.all_gather(own))
    }

    fn barrier(&self) -> once_for_both::Result<()> {
        self.count(0, |group| group.barrier())
    }

    fn abort(&self, message: &str) {
        self.group.abort(message);
    }
}

impl Pending for CountedPending {
    fn wait(self: Box<Self>) -> once_for_both::Result<()> {
        let begin = Instant::now();
        let Self(pending, counts) = *self;
        let result = pending.wait();
        add(&counts, 0, 0, begin);
        result
    }
}
