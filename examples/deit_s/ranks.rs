//! Several processes that torchrun or Slurm has started: which of them does what.

use crate::cli::{Command, RunOptions};
use crate::AnyError;
use once_for_both::distributed::{
    from_env_with, Collective, GroupOptions, Rendezvous, SingleProcess,
};
use once_for_both::pipeline::{self, RunFolder};
use once_for_both::Error;
use std::sync::Arc;
use std::time::Duration;

/// Joins the processes that make a command together. A command that one process makes is made by rank
/// 0: `None` on the others.
pub fn join(
    command: Option<&Command>,
    time_limit: u64,
) -> Result<Option<Arc<dyn Collective>>, AnyError> {
    let alone = match command {
        None => false,
        Some(command) => command.stage().is_none() && !matches!(command, Command::Eval),
    };
    if !alone {
        let limit = Duration::from_secs(time_limit);
        return Ok(Some(from_env_with(&GroupOptions::default().time_limit(limit))?));
    }
    Rendezvous::from_env()?;
    Ok(is_main().then(|| Arc::new(SingleProcess) as Arc<dyn Collective>))
}

/// Tells the other ranks why this one ends, unless they know.
pub fn tell(group: &dyn Collective, error: &AnyError) {
    match error.downcast_ref::<Error>() {
        Some(Error::Distributed(error)) if error.is_of_all_ranks() => {}
        _ => group.tell(&**error),
    }
}

/// Whether this process is rank 0, or alone.
pub fn is_main() -> bool {
    Rendezvous::from_env().ok().flatten().is_none_or(|place| place.rank == 0)
}

/// A run that a launcher has restarted goes on from its newest checkpoint. The launchers of several machines
/// may have counted restarts of their own: one suffices.
pub fn resume_after_restart(
    options: &mut RunOptions,
    stage: Option<pipeline::Command>,
    group: &dyn Collective,
) -> Result<(), AnyError> {
    let begun = options.out.as_ref().is_some_and(|out| RunFolder::new(out).has_begun(stage));
    let restarted = Rendezvous::from_env()?.is_some_and(|place| place.restart > 0);
    let all = group.all_gather(&[u8::from(begun), u8::from(restarted)])?;
    // Rank 0 writes the folder.
    options.resume |= all[0][0] == 1 && all.iter().any(|rank| rank[1] == 1);
    Ok(())
}
