//! The cache of the hub on this machine: `models--OWNER--NAME` with `refs/REVISION`, which names a
//! commit, and `snapshots/COMMIT`, which has the files.

use super::name::is_part;
use super::{HubFiles, HubName};
use crate::error::HubError;
use crate::import::checkpoint::shards::{self, FILES};
use fs4::FileExt;
use std::fs::File;
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
        let stored = std::fs::read_to_string(self.folder.join("refs").join(revision)).ok();
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
        let error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| HubError::Cache { action, path, source }
        };
        if let Some(folder) = self.lock.parent() {
            std::fs::create_dir_all(folder).map_err(error("create", folder))?;
        }
        let file = File::create(&self.lock).map_err(error("create", &self.lock))?;
        if let Err(reason) = FileExt::lock(&file) {
            let lock = self.lock.display();
            tracing::warn!(%lock, %reason, "no locks here: other processes may fetch the same files");
        }
        Ok(file)
    }
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
