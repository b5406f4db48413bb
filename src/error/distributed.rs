//! Errors of training in several processes.

/// Fault of a group of processes, or of one of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistributedError {
    /// An environment variable that is missing or wrong.
    #[error("environment variable {variable}: got {actual}, expected {expected}; torchrun and Slurm's srun set it, or set it by hand")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// What is allowed.
        expected: String,
        /// Its value, or "none".
        actual: String,
    },

    /// Several processes, in a program built without the feature `distributed`.
    #[error("WORLD_SIZE: got {world_size}, expected 1 without the feature \"distributed\"; build once-for-both with it")]
    FeatureMissing {
        /// Number of processes.
        world_size: usize,
    },

    /// A group that did not come together, or an operation of it that failed: a process ended, or did
    /// not answer in time.
    #[error("rank {rank} of {world_size}: {operation} failed: {reason}")]
    Failed {
        /// The rank that noticed.
        rank: usize,
        /// Number of processes.
        world_size: usize,
        /// What the processes did together.
        operation: String,
        /// What happened, as far as this rank knows.
        reason: String,
    },

    /// CUDA tensors in a group whose program cannot use NCCL.
    #[error("NCCL for tensors on {device}: {reason}")]
    Nccl {
        /// The device.
        device: String,
        /// What is missing, and what to install.
        reason: String,
    },

    /// An error of another rank, with which all ranks end.
    #[error("rank {rank} failed: {message}")]
    Peer {
        /// The rank that failed.
        rank: usize,
        /// Its error, in one line.
        message: String,
    },

    /// Ranks that were started differently.
    #[error("{what} of rank {rank}: got {actual}, expected {expected} as on rank 0; start all ranks alike")]
    Differs {
        /// What differs.
        what: String,
        /// The first rank with another value than rank 0.
        rank: usize,
        /// Value of rank 0.
        expected: String,
        /// Value of that rank.
        actual: String,
    },

    /// Parameters that are no longer the same on all ranks.
    #[error(
        "after step {step}, {parameter} differs between rank 0 and {}: all ranks have to compute \
         the same; look for components or batches that depend on the rank, then resume from the last \
         checkpoint", listed(ranks)
    )]
    Drift {
        /// Optimiser steps done.
        step: u64,
        /// The first parameter that differs.
        parameter: String,
        /// The ranks on which it differs from rank 0.
        ranks: Vec<usize>,
    },

    /// A global batch that the ranks cannot share.
    #[error(
        "batch of {batch} images over {world_size} processes: got {batch}, expected {expected}"
    )]
    Share {
        /// Images of the batch of all ranks together.
        batch: usize,
        /// Number of processes.
        world_size: usize,
        /// What is allowed.
        expected: String,
    },
}

impl DistributedError {
    /// Whether all ranks end with this error or know of it, so that none has to tell it to the others.
    pub fn is_of_all_ranks(&self) -> bool {
        matches!(
            self,
            Self::Peer { .. } | Self::Drift { .. } | Self::Differs { .. } | Self::Failed { .. }
        )
    }
}

/// Returns "rank 3" or "ranks 1, 3".
fn listed(ranks: &[usize]) -> String {
    let names: Vec<String> = ranks.iter().map(usize::to_string).collect();
    let kind = if ranks.len() == 1 { "rank" } else { "ranks" };
    format!("{kind} {}", names.join(", "))
}
