//! The cache of the hub on this machine: `models--OWNER--NAME` with `refs/REVISION`, which names a
//! commit, and `snapshots/COMMIT`, which has the files.

use super::name::is_part;
use super::{HubFiles, HubName};
use crate::error::HubError;
use crate::files;
use crate::import::checkpoint::shards::{self, FILES};
use fs4::{FileExt, TryLockError};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Ends of the names of indexes of several files.
const INDEX: &str = ".index.json";
/// Files of weights, the first that there is counts.
pub(super) const WEIGHTS: [&str; FILES.len() + 1] =
    [FILES[0], FILES[1], FILES[2], FILES[3], "open_clip_model.safetensors"];
/// Files with properties of the network that no tensor shows.
pub(super) const CONFIGS: [&str; 2] = ["config.json", "open_clip_config.json"];

/// The part of the cache that a repository has.
pub(super) struct Repository {
    folder: PathBuf,
    lock: PathBuf,
}

impl Repository {
    pub(super) fn new(cache: &Path, name: &HubName) -> Self {
        let folder = format!("models--{}", name.repository().replace('/', "--"));
        let lock = cache.join(".locks").join(&folder).join("once-for-both.lock");
        Self { folder: cache.join(folder), lock }
    }

    /// Returns the files of a revision; `None` unless all of the weights are there.
    pub(super) fn find(&self, revision: &str) -> Result<Option<HubFiles>, HubError> {
        let stored = fs::read_to_string(self.folder.join("refs").join(revision)).ok();
        let commit = stored.as_deref().map_or(revision, str::trim);
        let snapshot = self.snapshot(commit);
        for weights in WEIGHTS.map(|name| snapshot.join(name)) {
            if weights.is_file() && others(&weights)?.iter().all(|path| path.is_file()) {
                return Ok(Some(HubFiles::new(weights, commit)));
            }
        }
        Ok(None)
    }

    /// Returns the folder of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        // A revision with a slash is no commit.
        self.folder.join("snapshots").join(if is_part(commit) { commit } else { "none" })
    }

    /// Returns the file of contents with this etag.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Waits until no other process fetches the repository; it then waits for this one.
    pub(super) fn lock(&self) -> Result<File, HubError> {
        if let Some(folder) = self.lock.parent() {
            fs::create_dir_all(folder).map_err(error("create", folder))?;
        }
        let file = File::create(&self.lock).map_err(error("create", &self.lock))?;
        let lock = self.lock.display();
        if matches!(FileExt::try_lock(&file), Err(TryLockError::WouldBlock)) {
            tracing::info!(%lock, "waits for another process that fetches the same files");
        }
        if let Err(reason) = FileExt::lock(&file) {
            tracing::warn!(%lock, %reason, "no locks here: other processes may fetch the same files");
        }
        Ok(file)
    }

    /// Notes which commit a revision is.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        // As in Python, a commit is noted by its snapshot alone.
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(error("create", folder))?;
        }
        files::write_atomically(&path, commit.as_bytes())
            .map_err(|reason| error("write", &path)(io::Error::other(reason)))
    }

    /// Makes the file of a commit one of these contents.
    pub(super) fn link(&self, blob: &Path, path: &Path) -> Result<(), HubError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(error("create", folder))?;
        }
        // A link to contents that are gone.
        if path.is_symlink() {
            fs::remove_file(path).map_err(error("remove", path))?;
        }
        linked(blob, path).map_err(error("create", path))
    }
}

fn error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HubError {
    let path = path.to_owned();
    move |source| HubError::Cache { action, path, source }
}

/// As in Python, a symbolic link, or the file itself where there are none.
fn linked(blob: &Path, path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(name) = blob.file_name() {
        let target = Path::new("../../blobs").join(name);
        // Python may have made the link since the last look.
        if std::os::unix::fs::symlink(target, path).is_ok() || path.is_file() {
            return Ok(());
        }
    }
    fs::rename(blob, path)
}

impl HubFiles {
    /// Returns weights of a commit, with the configuration beside them.
    pub(super) fn new(weights: PathBuf, commit: &str) -> Self {
        let mut configs = CONFIGS.iter().map(|name| weights.with_file_name(name));
        let config = configs.find(|path| path.is_file());
        Self { weights, config, commit: commit.into() }
    }
}

/// Returns the files that an index names; none of a file that is no index.
pub(super) fn others(weights: &Path) -> Result<Vec<PathBuf>, HubError> {
    if !weights.to_string_lossy().ends_with(INDEX) {
        return Ok(Vec::new());
    }
    let names = shards::names(weights)
        .map_err(|source| HubError::Index { path: weights.into(), source: Box::new(source) })?;
    Ok(names.iter().map(|name| weights.with_file_name(name)).collect())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Python has made it between the look and the link.
    #[test]
    fn link_that_is_there_by_now_is_kept_with_its_blob() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let [blobs, snapshot] = ["blobs", "snapshots/aa"].map(|name| folder.path().join(name));
        [&blobs, &snapshot].into_iter().try_for_each(fs::create_dir_all)?;
        let (blob, path) = (blobs.join("etag"), snapshot.join("config.json"));
        fs::write(&blob, "{}")?;
        linked(&blob, &path)?;
        linked(&blob, &path)?;
        assert!(path.is_symlink() && blob.is_file() && fs::read(&path)? == b"{}");
        Ok(())
    }
}
