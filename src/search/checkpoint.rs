//! A run on disk: written beside and renamed, so that the newest checkpoint is always whole.

use super::method::Method;
use super::options::SearchOptions;
use super::session::Session;
use super::state::STATE;
use crate::files::{recover_folder, remove_folder, write_folder};
use crate::models::Architecture;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use tch::Device;

const TOP1: &str = "top1";

/// The checkpoints of a run: a folder of folders `step-00000042`.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Checkpoints in `folder`, of which the newest `keep` are kept.
    pub fn new(folder: impl Into<PathBuf>, keep: usize) -> Self {
        Self { folder: folder.into(), keep: keep.max(1) }
    }

    /// Writes the session's state, then removes what is too old. In a folder that holds later steps
    /// (of a run that went back, say) those stay the newest.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Torch`] if it cannot be written; earlier checkpoints stay.
    pub fn save<A: Architecture>(&self, session: &Session<A>) -> Result<PathBuf> {
        let path = self.folder.join(format!("step-{:08}", session.step));
        write_folder(&path, STATE, |folder| session.write(folder))?;
        let mut all = list(&self.folder)?;
        all.sort();
        let surplus = all.len().saturating_sub(self.keep);
        let old = all[..surplus].iter().filter(|old| **old != path);
        old.into_iter().try_for_each(|old| remove_folder(old))?;
        Ok(path)
    }

    /// Writes the session's state as the best so far, if `top1` is higher than what is there.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Torch`] if it cannot be written; the best so far stays.
    pub fn save_best<A: Architecture>(&self, session: &Session<A>, top1: f64) -> Result<bool> {
        let path = self.best();
        recover_folder(&path)?;
        if std::fs::read_to_string(path.join(TOP1)).is_ok_and(|text| {
            // A torn or foreign number is no reason to keep what it stands for.
            text.parse().is_ok_and(|best: f64| best >= top1)
        }) {
            return Ok(false);
        }
        write_folder(&path, STATE, |folder| {
            let file = folder.join(TOP1);
            std::fs::write(&file, top1.to_string())
                .map_err(|source| Error::io("write", file, source))?;
            session.write(folder)
        })?;
        Ok(true)
    }

    /// Where the best state is, once there is one.
    pub fn best(&self) -> PathBuf {
        self.folder.join("best")
    }

    /// The newest checkpoint, whole or not.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder exists and cannot be read.
    pub fn newest(&self) -> Result<Option<PathBuf>> {
        Ok(list(&self.folder)?.into_iter().max())
    }

    /// Goes on from the newest checkpoint that can be used; `None` where there is none at all.
    ///
    /// # Errors
    /// The reason of the newest if every one is refused: damaged, foreign, of a newer version, or
    /// made with another method.
    pub fn resume<A: Architecture>(&self, device: Device) -> Result<Option<Resumed<A>>> {
        self.resume_with(&Method::of, device)
    }

    /// [`resume`](Self::resume) of a session with a method of its own.
    ///
    /// # Errors
    /// Those of [`resume`](Self::resume).
    pub fn resume_with<A: Architecture>(
        &self,
        method: &dyn Fn(&SearchOptions) -> Result<Method>,
        device: Device,
    ) -> Result<Option<Resumed<A>>> {
        let mut all = list(&self.folder)?;
        all.sort();
        let mut refused = Vec::new();
        for path in all.into_iter().rev() {
            match Session::resume_with(method, &path, device) {
                Ok(session) => return Ok(Some(Resumed { session, refused })),
                Err(reason) => refused.push((path, reason)),
            }
        }
        match refused.into_iter().next() {
            Some((_, reason)) => Err(reason),
            None => Ok(None),
        }
    }
}

/// A session taken up from a checkpoint.
#[derive(Debug)]
pub struct Resumed<A: Architecture> {
    /// The session.
    pub session: Session<A>,
    /// Newer checkpoints that could not be used, and why.
    pub refused: Vec<(PathBuf, Error)>,
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("read", folder, source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::io("read", folder, source))?;
        let name = entry.file_name();
        let digits = name.to_string_lossy().strip_prefix("step-").map(str::to_string);
        if digits.is_some_and(|digits| digits.parse::<u64>().is_ok()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
