//! What the processes of a group do together.

use crate::error::{in_words, DistributedError};
use crate::{Error, Result};
use std::cell::Cell;
use std::fmt::Debug;
use std::time::{Duration, Instant};
use tch::Tensor;

/// Operations that all processes of a group make together, each in the same order.
///
/// An operation that one rank makes and another does not waits until the time limit of the group. One
/// that the ranks make with different numbers of elements is a fault of the program: gloo ends the
/// process. After an error the group is of no use any more: the process has to end.
pub trait Collective: Send + Sync + Debug {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn world_size(&self) -> usize;

    /// Begins to sum a tensor over all ranks, in place. The tensor holds the sum once the result of
    /// this call has been [waited for](Pending::wait).
    ///
    /// # Shapes
    /// Any; contiguous, of the same shape and kind on all ranks, on the CPU or a CUDA device.
    ///
    /// # Errors
    /// [`DistributedError::Peer`] with the message of a rank that called [`abort`](Self::abort), else
    /// [`DistributedError::Failed`] if a rank ended or does not answer; [`Error::Invalid`](crate::Error::Invalid) for a tensor
    /// that is not contiguous or of a kind that cannot be sent; [`DistributedError::Nccl`] for a CUDA
    /// tensor where NCCL is not to be had.
    fn start_all_reduce(&self, tensor: &Tensor) -> Result<Box<dyn Pending>>;

    /// Sums a tensor over all ranks, in place; see [`start_all_reduce`](Self::start_all_reduce).
    ///
    /// # Errors
    /// As there.
    fn all_reduce(&self, tensor: &Tensor) -> Result<()> {
        self.start_all_reduce(tensor)?.wait()
    }

    /// Replaces a tensor by that of rank `root`, in place.
    ///
    /// # Errors
    /// As [`start_all_reduce`](Self::start_all_reduce).
    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()>;

    /// Returns the bytes of every rank, which may differ in length, in the order of the ranks.
    ///
    /// # Errors
    /// As [`start_all_reduce`](Self::start_all_reduce).
    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Returns once all ranks have called it.
    ///
    /// # Errors
    /// As [`start_all_reduce`](Self::start_all_reduce).
    fn barrier(&self) -> Result<()>;

    /// Leaves a message for the other ranks before this one ends with an error: their present or next
    /// operation fails with it. Returns within two seconds, even if no rank can be reached. The default
    /// does nothing.
    fn abort(&self, message: &str) {
        let _ = message;
    }
}

/// An operation in progress.
pub trait Pending: Send + Debug {
    /// Waits for its end. On a GPU, what is queued afterwards waits, not the host. An operation that is
    /// dropped instead goes on, and keeps its tensor.
    ///
    /// # Errors
    /// As [`Collective::start_all_reduce`].
    fn wait(self: Box<Self>) -> Result<()>;
}

impl dyn Collective + '_ {
    /// Whether this is rank 0, which writes the files.
    pub fn is_main(&self) -> bool {
        self.rank() == 0
    }

    /// Runs `work` on rank 0 alone, and ends all ranks if it fails. Returns its result on rank 0, `None`
    /// on the others.
    ///
    /// # Errors
    /// That of `work`, on the other ranks as [`DistributedError::Peer`].
    pub fn on_main<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let own = if self.is_main() { work().map(Some) } else { Ok(None) };
        self.agree(own)
    }

    /// Tells the other ranks of an error with which this one ends, with its causes; see `abort`.
    pub fn tell(&self, error: &dyn std::error::Error) {
        self.abort(&in_words(error));
    }

    /// Returns what rank 0 says, on every rank.
    ///
    /// # Errors
    /// Those of [`all_gather`](Collective::all_gather).
    pub(crate) fn main_says(&self, own: bool) -> Result<bool> {
        Ok(self.all_gather(&[u8::from(own)])?[0] == [1])
    }

    /// As `on_main`, for work that may take longer than the time limit of the group. `work`
    /// is given a function that tells the other ranks that this one goes on; it calls it again within the
    /// limit, and ends with its error.
    ///
    /// # Errors
    /// As there.
    pub fn on_main_for_long<T>(
        &self,
        work: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<T>,
    ) -> Result<Option<T>> {
        const PAUSE: Duration = Duration::from_millis(100);
        if !self.is_main() {
            while self.main_says(false)? {}
            return self.agree(Ok(None));
        }
        let told = Cell::new(Instant::now());
        let tell = || {
            if told.get().elapsed() < PAUSE {
                return Ok(());
            }
            self.main_says(true)?;
            told.set(Instant::now());
            Ok(())
        };
        match work(&tell) {
            Err(error @ Error::Distributed(_)) => Err(error),
            done => {
                let ended = self.main_says(false);
                let done = self.agree(done.map(Some))?;
                ended.map(|_| done)
            }
        }
    }

    /// Ends all ranks if one of them fails: returns the result of this rank if it is an error, else
    /// the error of the first rank that has one.
    ///
    /// # Errors
    /// That of `own`; [`DistributedError::Peer`] for that of another rank.
    pub fn agree<T>(&self, own: Result<T>) -> Result<T> {
        if self.world_size() == 1 {
            return own;
        }
        let message = own.as_ref().err().map(|error| in_words(error)).unwrap_or_default();
        let messages = self.all_gather(message.as_bytes());
        let value = own?;
        for (rank, message) in messages?.into_iter().enumerate() {
            if !message.is_empty() {
                let message = String::from_utf8_lossy(&message).into_owned();
                return Err(DistributedError::Peer { rank, message }.into());
            }
        }
        Ok(value)
    }
}
