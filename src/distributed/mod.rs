//! Several processes that train one network together: data parallel.
//!
//! Each process, a rank, holds the whole network and reads its share of every batch; gradients are
//! summed over the ranks. Everything else is computed on each rank from the same numbers, so all ranks
//! decide and prune alike. [`Collective`] is what the processes do together.

mod collective;
mod share;
mod single_process;

pub use collective::{Collective, Pending};
pub use share::Share;
pub use single_process::SingleProcess;
