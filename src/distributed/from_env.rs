//! The group that the environment describes.

use super::{Collective, GroupOptions, Rendezvous, SingleProcess};
use crate::Result;
use std::sync::Arc;

/// Joins the group that the environment describes, with the default [`GroupOptions`]. Returns
/// [`SingleProcess`] where no variable is set, or the group has one process. Call it once in a process:
/// a process joins a group once.
///
/// | variable | value | set by |
/// |---|---|---|
/// | `RANK` | number of this process, from 0 | torchrun, Kubeflow |
/// | `WORLD_SIZE` | number of processes | torchrun, Kubeflow |
/// | `LOCAL_RANK` | number of this process on its machine, from 0; default 0 | torchrun |
/// | `MASTER_ADDR` | name or address of rank 0's machine | torchrun, Kubeflow |
/// | `MASTER_PORT` | a free TCP port there | torchrun, Kubeflow |
/// | `SLURM_PROCID`, `SLURM_NTASKS`, `SLURM_LOCALID` | read where `RANK` and `WORLD_SIZE` are not set, in a job step of several tasks | Slurm's `srun` |
///
/// In a job step of Slurm, `MASTER_ADDR` defaults to the first machine of the step, and `MASTER_PORT` to
/// a port from 15000 to 29999 that follows from the numbers of job and step.
///
/// # Errors
/// [`DistributedError::Variable`](crate::error::DistributedError::Variable) for a variable that is
/// missing or wrong, a port in use, an address that cannot be resolved, or a rank that another process
/// has; [`Failed`](crate::error::DistributedError::Failed), naming the ranks that are missing, if they do
/// not come within the time limit; [`Differs`](crate::error::DistributedError::Differs) for another
/// `WORLD_SIZE` than rank 0's; [`FeatureMissing`](crate::error::DistributedError::FeatureMissing) for
/// several processes without the feature `distributed`.
pub fn from_env() -> Result<Arc<dyn Collective>> {
    from_env_with(&GroupOptions::default())
}

/// As [`from_env`], with options.
///
/// # Errors
/// As there; [`Error::Invalid`](crate::Error::Invalid) for an option out of range.
pub fn from_env_with(options: &GroupOptions) -> Result<Arc<dyn Collective>> {
    options.check()?;
    match Rendezvous::from_env()? {
        Some(rendezvous) if rendezvous.world_size > 1 => group(rendezvous, options),
        _ => Ok(Arc::new(SingleProcess)),
    }
}

#[cfg(feature = "distributed")]
fn group(rendezvous: Rendezvous, options: &GroupOptions) -> Result<Arc<dyn Collective>> {
    Ok(Arc::new(super::ProcessGroup::join(&rendezvous, options)?))
}

#[cfg(not(feature = "distributed"))]
fn group(rendezvous: Rendezvous, _options: &GroupOptions) -> Result<Arc<dyn Collective>> {
    let world_size = rendezvous.world_size;
    Err(crate::error::DistributedError::FeatureMissing { world_size }.into())
}
