//! Several processes that train one network together: data parallel.
//!
//! Each process, a rank, holds the whole network and reads its share of every batch; gradients are
//! summed over the ranks. Everything else is computed on each rank from the same numbers, so all ranks
//! decide and prune alike. [`Collective`] is what the processes do together; [`from_env`] returns the
//! group of processes that torchrun, Slurm or Kubeflow started.

mod collective;
mod from_env;
mod options;
mod rendezvous;
mod share;
mod single_process;

#[cfg(feature = "distributed")]
mod alarm;
#[cfg(feature = "distributed")]
mod backward;
#[cfg(feature = "distributed")]
mod bounded;
#[cfg(feature = "distributed")]
mod c10d;
#[cfg(feature = "distributed")]
mod join;
#[cfg(feature = "distributed")]
mod nccl;
#[cfg(feature = "distributed")]
mod process_group;

#[cfg(feature = "distributed")]
pub(crate) use backward::backward;
pub use collective::{Collective, Pending};
pub use from_env::{from_env, from_env_with};
pub use options::GroupOptions;
#[cfg(feature = "distributed")]
pub use process_group::ProcessGroup;
pub use rendezvous::{local_rank, local_world_size, Rendezvous};
pub use share::Share;
pub use single_process::SingleProcess;
