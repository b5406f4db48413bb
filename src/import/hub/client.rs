//! Fetches files from the hub into its cache.
//!
//! The crate hf-hub is not used: it sends the token to other servers, asks twice for what a file is,
//! and of the rest only the few paths of [`super::cache`] would be left.

use super::cache::{others, Repository, CONFIGS, WEIGHTS};
use super::name::is_part;
use super::requests::{Client, Contents};
use super::{refused, Hub, HubFiles, HubName};
use crate::error::HubError;
use crate::{files, Error};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;

/// Returns the files of a name, from the cache if they are there.
pub(super) fn files(hub: &Hub, name: &HubName) -> Result<HubFiles, HubError> {
    let repository = Repository::new(&hub.cache, name);
    let cached = repository.find(name.revision())?;
    match cached {
        None if hub.offline => Err(HubError::Offline { cache: hub.cache.clone() }),
        Some(found) if found.config.is_some() => Ok(found),
        // A cache that timm has filled may have no config.json.
        Some(found) if hub.offline => Ok(without_config(found, "HF_HUB_OFFLINE")),
        cached => match (fetched(hub, name, &repository), cached) {
            (Err(reason), Some(found)) if is_of_now(&reason) => {
                Ok(without_config(found, &reason.to_string()))
            }
            (result, _) => result,
        },
    }
}

/// Whether another time may give what was not had now. A refused token, answers about another repository, and those
/// that are damaged, are not of that kind.
fn is_of_now(reason: &HubError) -> bool {
    match reason {
        HubError::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
        HubError::Unreachable { .. } | HubError::Transfer { .. } | HubError::Cache { .. } => true,
        _ => false,
    }
}

/// Returns the files, and logs that no configuration is beside the weights.
fn without_config(found: HubFiles, reason: &str) -> HubFiles {
    let weights = found.weights.display();
    tracing::warn!(%weights, %reason, "takes the weights in the cache, without config.json");
    found
}

/// Returns the files of a name from the hub, or from the cache where another process has fetched
/// them meanwhile.
fn fetched(hub: &Hub, name: &HubName, repository: &Repository) -> Result<HubFiles, HubError> {
    let _lock = repository.lock()?;
    match repository.find(name.revision())?.filter(|found| found.config.is_some()) {
        Some(found) => Ok(found),
        None => Transfer { hub, name, client: Client::new(hub)?, repository }.files(),
    }
}

/// A repository on the hub, and its part of the cache.
struct Transfer<'a> {
    hub: &'a Hub,
    name: &'a HubName,
    client: Client<'a>,
    repository: &'a Repository,
}

/// The hub's answer about a revision.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Transfer<'_> {
    /// Returns the address of a part of the repository.
    fn url(&self, before: &[&str], after: &[&str]) -> String {
        let own: Vec<&str> = self.name.repository().split('/').collect();
        self.client.url(&[before, &own, after].concat())
    }

    fn info(&self) -> Result<Info, HubError> {
        let url = self.url(&["api", "models"], &["revision", self.name.revision()]);
        let text = self.client.text(&url)?;
        match serde_json::from_slice::<Info>(&text) {
            Ok(info) if is_part(&info.sha) => Ok(info),
            Ok(info) => Err(HubError::Answer { url, reason: format!("commit {:?}", info.sha) }),
            Err(error) => Err(HubError::Answer { url, reason: error.to_string() }),
        }
    }

    fn files(&self) -> Result<HubFiles, HubError> {
        let info = self.info()?;
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
        self.repository.remember(self.name.revision(), &info.sha)?;
        Ok(HubFiles::new(path, &info.sha))
    }

    /// Fetches a file, unless it is in the cache.
    fn file(&self, commit: &str, name: &str) -> Result<PathBuf, HubError> {
        let path = self.repository.snapshot(commit).join(name);
        if path.is_file() {
            return Ok(path);
        }
        let url = self.url(&[], &["resolve", commit, name]);
        let contents = self.client.file(&url)?;
        if contents.about.commit != commit {
            let reason = format!("commit {:?}, expected {commit:?}", contents.about.commit);
            return Err(HubError::Answer { url, reason });
        }
        let blob = self.repository.blob(&contents.about.etag);
        // The same contents may be there of another commit.
        if !blob.metadata().is_ok_and(|own| own.is_file() && own.len() == contents.length) {
            self.transfer(&url, contents, &blob)?;
        }
        self.repository.link(&blob, &path)?;
        Ok(path)
    }

    /// Writes contents to a file, which is there only when all of them are.
    fn transfer(&self, url: &str, contents: Contents, blob: &Path) -> Result<(), HubError> {
        let cache = |action, source| HubError::Cache { action, path: blob.into(), source };
        if let Some(folder) = blob.parent() {
            std::fs::create_dir_all(folder).map_err(|source| cache("create", source))?;
        }
        let bar = self.bar(url, contents.length);
        let mut body = bar.wrap_read(contents.body.into_reader());
        let written = files::write_with(blob, |out| {
            let copied = copy(&mut body, out, url, contents.length, blob);
            copied.map_err(|source| refused(url, source))
        });
        written.map_err(|error| match error {
            Error::Hub { source, .. } => *source,
            Error::Io { source, .. } => cache("write", source),
            other => cache("write", io::Error::other(other)),
        })
    }

    fn bar(&self, url: &str, length: u64) -> ProgressBar {
        if !self.hub.progress {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length);
        let text = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} ({eta})";
        if let Ok(style) = ProgressStyle::with_template(text) {
            bar.set_style(style);
        }
        bar.set_message(url.rsplit('/').next().unwrap_or_default().to_owned());
        bar
    }
}

/// Copies a body of this length to a file.
fn copy(
    body: &mut impl Read,
    out: &mut impl Write,
    url: &str,
    expected: u64,
    path: &Path,
) -> Result<(), HubError> {
    let (mut actual, mut chunk) = (0, vec![0; CHUNK]);
    loop {
        let read = match body.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|source| HubError::Transfer { url: url.into(), source })?,
        };
        actual += read as u64;
        if actual > expected || (read == 0 && actual < expected) {
            return Err(HubError::Length { url: url.into(), expected, actual });
        }
        if read == 0 {
            return Ok(());
        }
        let cache = |source| HubError::Cache { action: "write", path: path.into(), source };
        out.write_all(chunk.get(..read).unwrap_or_default()).map_err(cache)?;
    }
}
