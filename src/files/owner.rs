//! Ownership of run folders: a lock of the operating system, which ends with the process.

use crate::error::FolderError;
use crate::{Error, Result};
use fs4::{FileExt, TryLockError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Name of the file that is locked. It stays when the lock ends, and then means nothing.
pub(super) const LOCK: &str = ".lock";

/// What writes to a run folder. Parts of one process share the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A [`Pipeline`](crate::pipeline::Pipeline); there is one at a time.
    #[cfg(feature = "pipeline")]
    Pipeline,
    /// A [`Run`](crate::search::Run); there is one at a time.
    Run,
    /// [`Checkpoints`](crate::search::Checkpoints); a process may have several.
    Checkpoints,
}

/// Ownership of a folder by this process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Owner {
    folder: PathBuf,
    part: Part,
    first: bool,
}

/// Folder that this process owns.
struct Held {
    /// The locked file; `None` where the file system has no locks.
    _lock: Option<File>,
    parts: Vec<Part>,
}

/// Folders that this process owns: a lock of the operating system is one of the whole process.
static HELD: Mutex<BTreeMap<PathBuf, Held>> = Mutex::new(BTreeMap::new());

fn held() -> MutexGuard<'static, BTreeMap<PathBuf, Held>> {
    // The map is whole at every moment, also when a thread has panicked.
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owner {
    /// Takes ownership of a folder, and creates it if it is not there.
    ///
    /// Where the file system has no locks, a warning is emitted and the folder is taken without one.
    ///
    /// # Errors
    /// [`FolderError::InUse`] if another process owns it, or the same part of this one; [`Error::Io`] if
    /// it cannot be created, or the lock file not be written.
    pub(crate) fn claim(folder: &Path, part: Part) -> Result<Self> {
        let io = |source| Error::io("create", folder, source);
        fs::create_dir_all(folder).map_err(io)?;
        let place = fs::canonicalize(folder).map_err(io)?;
        let mut held = held();
        let first = !held.contains_key(&place);
        match held.get_mut(&place) {
            Some(own) if part != Part::Checkpoints && own.parts.contains(&part) => {
                let holder = "this process, which writes to it already".into();
                return Err(FolderError::InUse { path: folder.into(), holder }.into());
            }
            Some(own) => own.parts.push(part),
            None => {
                let _lock = locked(folder)?;
                held.insert(place.clone(), Held { _lock, parts: vec![part] });
            }
        }
        Ok(Self { folder: place, part, first })
    }

    /// Whether no other part of this process owned the folder before.
    pub(crate) fn is_first(&self) -> bool {
        self.first
    }

    /// Refuses a folder that another process owns. Nothing is written.
    ///
    /// # Errors
    /// [`FolderError::InUse`].
    #[cfg(feature = "pipeline")]
    pub(crate) fn expect_free(folder: &Path) -> Result<()> {
        let own = fs::canonicalize(folder).is_ok_and(|place| held().contains_key(&place));
        let Ok(file) = super::open(&folder.join(LOCK)) else { return Ok(()) };
        match FileExt::try_lock_shared(&file) {
            Err(TryLockError::WouldBlock) if !own => Err(in_use(folder)),
            _ => Ok(()),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut held = held();
        let Some(own) = held.get_mut(&self.folder) else { return };
        if let Some(at) = own.parts.iter().position(|&part| part == self.part) {
            own.parts.swap_remove(at);
        }
        if own.parts.is_empty() {
            // Closes the file, which ends the lock.
            held.remove(&self.folder);
        }
    }
}

/// Opens and locks the lock file; `None` where the file system has no locks.
fn locked(folder: &Path) -> Result<Option<File>> {
    let path = folder.join(LOCK);
    if super::is_irregular(&path) {
        return Err(Error::io("open", &path, super::regular::irregular(&path)));
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(|source| Error::io("open", &path, source))?;
    match FileExt::try_lock(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(folder)),
        Err(TryLockError::Error(reason)) => {
            let folder = folder.display();
            tracing::warn!(%folder, %reason, "no locks here: a second process is not refused");
            return Ok(None);
        }
    }
    // For the message of another process alone: a full disk is no reason to refuse.
    if let Ok(holder) = serde_json::to_vec(&Holder::this()) {
        let _ = file.set_len(0).and_then(|()| file.write_all(&holder));
    }
    Ok(Some(file))
}

fn in_use(folder: &Path) -> Error {
    let text = super::read(&folder.join(LOCK)).ok();
    let holder = text.and_then(|text| serde_json::from_slice::<Holder>(&text).ok());
    let holder = holder.map_or("another process".into(), |holder| holder.to_string());
    FolderError::InUse { path: folder.into(), holder }.into()
}

/// Process that owns a folder, as its lock file names it.
#[derive(Serialize, Deserialize)]
struct Holder {
    process: u32,
    host: String,
    since: String,
}

impl Holder {
    fn this() -> Self {
        let since = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self { process: std::process::id(), host: host(), since }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {} since {}", self.process, self.host, self.since)
    }
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "this host".into())
}
