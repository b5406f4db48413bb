//! Fetches files from the hub into its cache, by the crate hf-hub.

use super::cache::{others, Repository, CONFIGS, WEIGHTS};
use super::name::is_part;
use super::{Hub, HubFiles, HubName};
use crate::error::HubError;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};

/// Returns the files of a name, from the cache if they are there.
pub(super) fn files(hub: &Hub, name: &HubName) -> Result<HubFiles, HubError> {
    let repository = Repository::new(&hub.cache, name);
    // A cache that timm has filled may have no config.json.
    let is_whole = |found: &HubFiles| hub.offline || found.config.is_some();
    match repository.find(name.revision())?.filter(is_whole) {
        Some(found) => Ok(found),
        None if hub.offline => Err(HubError::Offline { cache: hub.cache.clone() }),
        None => {
            let _lock = repository.lock()?;
            // Another process may have fetched it meanwhile.
            match repository.find(name.revision())?.filter(is_whole) {
                Some(found) => Ok(found),
                None => Transfer::new(hub, name, repository)?.files(),
            }
        }
    }
}

/// A repository on the hub, and its part of the cache.
struct Transfer<'a> {
    hub: &'a Hub,
    name: &'a HubName,
    api: Api,
    repository: Repository,
}

impl<'a> Transfer<'a> {
    fn new(hub: &'a Hub, name: &'a HubName, repository: Repository) -> Result<Self, HubError> {
        let builder = ApiBuilder::from_cache(Cache::new(hub.cache.clone()))
            .with_endpoint(hub.endpoint.clone())
            .with_token(hub.token.clone())
            .with_progress(hub.progress)
            .with_user_agent(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let api = guarded(&hub.endpoint, || builder.build())?;
        Ok(Self { hub, name, api: api.map_err(|e| hub.refusal(&hub.endpoint, e))?, repository })
    }

    fn at(&self, revision: &str) -> ApiRepo {
        let (name, revision) = (self.name.repository().to_owned(), revision.to_owned());
        self.api.repo(Repo::with_revision(name, RepoType::Model, revision))
    }

    fn files(&self) -> Result<HubFiles, HubError> {
        let (wanted, endpoint) = (self.name.revision(), &self.hub.endpoint);
        let url = format!("{endpoint}/api/models/{}/revision/{wanted}", self.name.repository());
        let info = guarded(&url, || self.at(wanted).info())?;
        let info = info.map_err(|error| self.hub.refusal(&url, error))?;
        if !is_part(&info.sha) {
            return Err(HubError::Answer { url, reason: format!("commit {:?}", info.sha) });
        }
        let names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let has = |name: &str| names.iter().any(|own| own == name);
        let Some(weights) = WEIGHTS.iter().find(|name| has(name)) else {
            let found = names.into_iter().take(5).collect();
            return Err(HubError::NoWeights { found, expected: WEIGHTS.join(", ") });
        };
        // The configuration first: where the weights are, it is too.
        for config in CONFIGS.iter().filter(|name| has(name)) {
            self.file(&info.sha, config)?;
        }
        let path = self.file(&info.sha, weights)?;
        for other in others(&path)? {
            let name = other.file_name().unwrap_or_default().to_string_lossy();
            self.file(&info.sha, &name)?;
        }
        self.remember(&info.sha)?;
        Ok(HubFiles::new(path, &info.sha))
    }

    /// Notes in the cache which commit the revision is.
    fn remember(&self, commit: &str) -> Result<(), HubError> {
        let (name, revision) = (self.name.repository().to_owned(), self.name.revision());
        let own = Repo::with_revision(name, RepoType::Model, revision.into());
        let noted = Cache::new(self.hub.cache.clone()).repo(own).create_ref(commit);
        let path = self.hub.cache.clone();
        noted.map_err(|source| HubError::Cache { action: "write to", path, source })
    }

    /// Fetches a file, unless it is in the cache, and checks its length.
    fn file(&self, commit: &str, name: &str) -> Result<PathBuf, HubError> {
        let path = self.repository.snapshot(commit).join(name);
        if path.is_file() {
            return Ok(path);
        }
        let repo = self.at(commit);
        let url = repo.url(name);
        let metadata = guarded(&url, || self.api.metadata(&url))?;
        let metadata = metadata.map_err(|error| self.hub.refusal(&url, error))?;
        for own in [metadata.commit_hash(), metadata.etag()] {
            if !is_part(own) {
                return Err(HubError::Answer { url, reason: format!("commit or etag {own:?}") });
            }
        }
        let (blob, expected) = (self.repository.blob(metadata.etag()), metadata.size() as u64);
        // What an interrupted transfer left is continued, unless it is of something else.
        let partial = blob.with_extension("part");
        if partial.metadata().is_ok_and(|own| own.len() >= expected) {
            discard(&partial);
        }
        let fetched = guarded(&url, || repo.download(name))?;
        let fetched = fetched.map_err(|error| self.hub.refusal(&url, error))?;
        let length = |path: &Path| path.metadata().map(|own| own.len());
        match length(&fetched) {
            Ok(actual) if actual == expected => Ok(fetched),
            Ok(actual) => {
                discard(&fetched);
                discard(&blob);
                Err(HubError::Length { url, expected, actual })
            }
            Err(source) => Err(HubError::Cache { action: "read", path: fetched, source }),
        }
    }
}

/// Removes a file that would be taken for a whole one.
fn discard(path: &Path) {
    if let Err(reason) = std::fs::remove_file(path) {
        let path = path.display();
        tracing::warn!(%path, %reason, "cannot remove a file of another length");
    }
}

/// hf-hub panics on some wrong answers, such as a redirection that says not where to.
fn guarded<T>(url: &str, work: impl FnOnce() -> T) -> Result<T, HubError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| HubError::Answer {
        url: url.into(),
        reason: "the client hf-hub panicked".into(),
    })
}

impl Hub {
    /// The error of a request to `url`.
    fn refusal(&self, url: &str, error: ApiError) -> HubError {
        let url = url.to_owned();
        match error {
            ApiError::RequestError(source) => match *source {
                ureq::Error::StatusCode(404) => HubError::NotFound { url },
                ureq::Error::StatusCode(status @ (401 | 403)) => HubError::Denied { url, status },
                ureq::Error::StatusCode(status) => HubError::Status { url, status },
                ureq::Error::Json(error) => HubError::Answer { url, reason: error.to_string() },
                ureq::Error::Protocol(error) => HubError::Answer { url, reason: error.to_string() },
                source => {
                    let (endpoint, source) = (self.endpoint.clone(), Box::new(source));
                    HubError::Unreachable { endpoint, source }
                }
            },
            ApiError::IoError(source) => HubError::Transfer { url, source },
            other => HubError::Answer { url, reason: other.to_string() },
        }
    }
}
