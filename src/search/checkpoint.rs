//! Checkpoints on disk: each is written beside its place and renamed, so the newest is whole.

use super::resume_run::{expect_limits, snapshot_of};
use super::snapshot::{FORMAT, STATE, TENSORS};
use super::step::Search;
use crate::checksums::CHECKSUMS;
use crate::components::Components;
use crate::files::{
    discard_folder, expect_own_names, is_run_name, remove_leftovers, write_folder, FolderKind,
    Owner, Part,
};
use crate::models::Architecture;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tch::Device;

/// Folder name of the checkpoints in a run folder.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// Folder of one checkpoint. A damaged one is written anew when its step is reached again.
pub(crate) const CHECKPOINT: FolderKind = FolderKind {
    what: "checkpoint",
    mark: (STATE, FORMAT),
    files: &[STATE, TENSORS, CHECKSUMS],
    damaged_is_own: true,
};

/// The checkpoints of a search: a folder of folders `step-00000042`.
///
/// The first write takes ownership of the folder, until the value is dropped: other processes can
/// then read the checkpoints, but not write to the folder. The owner is a lock of the operating
/// system on the file `.lock`, which ends with the process.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    pub(super) keep: usize,
    owner: Mutex<Option<Owner>>,
}

impl Checkpoints {
    /// Checkpoints in `folder`, of which the newest `keep` are kept.
    pub fn new(folder: impl Into<PathBuf>, keep: usize) -> Self {
        Self { folder: folder.into(), keep: keep.max(1), owner: Mutex::new(None) }
    }

    /// Takes ownership of the folder before the first write, which takes it otherwise.
    ///
    /// # Errors
    /// [`FolderError::InUse`](crate::error::FolderError::InUse) if another process owns it;
    /// [`FolderError::Foreign`](crate::error::FolderError::Foreign) if it holds files of other
    /// programs and no checkpoint; [`Error::Io`] if it cannot be created or written.
    pub fn claim(&self) -> Result<()> {
        // A panic of another thread leaves it as it was.
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if owner.is_some() {
            return Ok(());
        }
        self.expect_own()?;
        let claimed = Owner::claim(&self.folder, Part::Checkpoints)?;
        if claimed.is_first() {
            remove_leftovers(&self.folder, &CHECKPOINT, is_checkpoint)?;
        }
        *owner = Some(claimed);
        Ok(())
    }

    /// Refuses a folder that holds files of other programs and no checkpoint. Nothing is written.
    pub(super) fn expect_own(&self) -> Result<()> {
        if list(&self.folder)?.iter().any(|path| CHECKPOINT.is_own(path)) {
            return Ok(());
        }
        let is_own = |name: &str| is_checkpoint(name) || is_run_name(name);
        expect_own_names("checkpoint folder", &self.folder, is_own, "one with checkpoints")
    }

    /// Writes a checkpoint, then removes the oldest; after skipped steps in a row it removes none, as no rollback goes to
    /// this one. In a folder that holds later steps, of a search that was rolled back, those stay the newest.
    ///
    /// # Errors
    /// Those of [`claim`](Self::claim); [`Error::Io`] or [`Error::Torch`] if it cannot be written;
    /// earlier checkpoints stay.
    pub fn save<A: Architecture>(&self, search: &Search<A>) -> Result<PathBuf> {
        let path = self.folder.join(format!("step-{:08}", search.step));
        self.claim()?;
        write_folder(&path, &CHECKPOINT, |folder| search.write(folder))?;
        if search.non_finite.counts()?.in_a_row == 0 {
            self.discard_surplus(&path)?;
        }
        Ok(path)
    }

    /// Removes all but the newest checkpoints and the one that was just `written`.
    fn discard_surplus(&self, written: &Path) -> Result<()> {
        let mut all = list(&self.folder)?;
        all.retain(|path| CHECKPOINT.is_own(path));
        let surplus = all.len().saturating_sub(self.keep);
        let old = all[..surplus].iter().filter(|old| **old != written);
        old.into_iter().try_for_each(|old| discard_folder(old, &CHECKPOINT))
    }

    /// Removes checkpoints.
    pub(super) fn discard(&self, checkpoints: &[PathBuf]) -> Result<()> {
        checkpoints.iter().try_for_each(|path| discard_folder(path, &CHECKPOINT))
    }

    /// Paths of all checkpoints, complete or not, from the oldest to the newest.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder exists and cannot be read.
    pub fn paths(&self) -> Result<Vec<PathBuf>> {
        list(&self.folder)
    }

    /// Path of the newest checkpoint, complete or not.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder exists and cannot be read.
    pub fn newest(&self) -> Result<Option<PathBuf>> {
        Ok(list(&self.folder)?.pop())
    }

    /// Resumes from the newest usable checkpoint, with components of this crate; `None` where there
    /// is no checkpoint at all.
    ///
    /// # Errors
    /// Why the newest cannot be used, if none can: those of [`Search::resume`].
    pub fn resume<A: Architecture>(&self, device: Device) -> Result<Option<Resumed<A>>> {
        self.resume_newest(|path| Search::resume(path, device))
    }

    /// Resumes from the newest usable checkpoint, with components handed over by the caller.
    ///
    /// # Errors
    /// Why the newest cannot be used, if none can: those of [`Search::resume_with`].
    pub fn resume_with<A: Architecture>(
        &self,
        components: &Components,
        device: Device,
    ) -> Result<Option<Resumed<A>>> {
        self.resume_newest(|path| Search::resume_with(components, path, device))
    }

    pub(super) fn resume_newest<A: Architecture>(
        &self,
        resume: impl Fn(&Path) -> Result<Search<A>>,
    ) -> Result<Option<Resumed<A>>> {
        match self.newest_usable(resume)? {
            (Some(search), skipped) => Ok(Some(Resumed { search, skipped })),
            (None, skipped) => match skipped.into_iter().next() {
                Some((_, reason)) => Err(reason),
                None => Ok(None),
            },
        }
    }

    /// Returns the search of the newest usable checkpoint, if there is one, and the newer checkpoints.
    fn newest_usable<A: Architecture>(
        &self,
        mut resume: impl FnMut(&Path) -> Result<Search<A>>,
    ) -> Result<(Option<Search<A>>, Skipped)> {
        let mut skipped = Vec::new();
        for path in list(&self.folder)?.into_iter().rev() {
            match resume(&path) {
                Ok(search) => return Ok((Some(search), skipped)),
                Err(reason) => skipped.push((path, reason)),
            }
        }
        Ok((None, skipped))
    }

    /// Returns the search as of its newest usable checkpoint, if there is one, and the newer checkpoints: those that
    /// cannot be used, are of another architecture or search space, other options or budgets, or were written amid
    /// skipped steps.
    pub(super) fn newest_of<A: Architecture>(&self, search: &Search<A>) -> Result<Last<A>> {
        let mut amid_skipped_steps = Vec::new();
        let (search, unusable) = self.newest_usable(|path| {
            let snapshot = snapshot_of::<A>(path, &search.origin, &search.options)?;
            expect_limits(&search.limits, &snapshot.state.limits)?;
            match snapshot.state.non_finite.in_a_row {
                0 => {}
                skipped => {
                    amid_skipped_steps.push(path.into());
                    return Err(Error::invalid("skipped steps in a row before it", "0", skipped));
                }
            }
            let device = search.supernet().device();
            Search::resume_from(snapshot, Some(&search.components), device)
        })?;
        Ok(Last { search, unusable, amid_skipped_steps })
    }

    /// Refuses a search after `step` steps that is at its beginning, beside checkpoints of later steps in `folder`: an
    /// earlier run wrote them. Those of step 0 may be its own.
    pub(super) fn expect_none_later(&self, step: u64, folder: &Path) -> Result<()> {
        let newest = self.newest()?.and_then(|path| step_of(&path)).unwrap_or(0);
        if step > 0 || newest == 0 {
            return Ok(());
        }
        let reason =
            "holds checkpoints of an earlier run; resume it with build_or_resume, or give \
                      another folder";
        Err(Error::file(folder, reason))
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Checkpoints that cannot be used, and why.
pub(super) type Skipped = Vec<(PathBuf, Error)>;

/// What a rollback finds among the checkpoints.
pub(super) struct Last<A: Architecture> {
    /// The search of the newest usable checkpoint, if there is one.
    pub(super) search: Option<Search<A>>,
    /// Newer checkpoints that cannot be used.
    pub(super) unusable: Skipped,
    /// Those of them that are of this search, but were written amid skipped steps.
    pub(super) amid_skipped_steps: Vec<PathBuf>,
}

impl<A: Architecture> Last<A> {
    /// No checkpoint at all.
    pub(super) fn none() -> Self {
        Self { search: None, unusable: Vec::new(), amid_skipped_steps: Vec::new() }
    }
}

/// A search resumed from a checkpoint.
#[derive(Debug)]
pub struct Resumed<A: Architecture> {
    /// The search.
    pub search: Search<A>,
    /// Newer checkpoints that could not be used, and why.
    pub skipped: Vec<(PathBuf, Error)>,
}

/// Returns the paths of the checkpoints in a folder, from the oldest to the newest.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("read", folder, source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::io("read", folder, source))?;
        found.extend(step_of(&entry.path()).map(|step| (step, entry.path())));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Returns the step of a checkpoint from the name of its folder; `None` for other names.
fn step_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

/// Whether a checkpoint has this name.
fn is_checkpoint(name: &str) -> bool {
    step_of(Path::new(name)).is_some()
}
