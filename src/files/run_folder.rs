//! Folders that a run may be written to.

use super::owner::LOCK;
use super::{listed, names};
use crate::error::FolderError;
use crate::{Error, Result};
use std::fs;
#[cfg(feature = "pipeline")]
use std::io;
use std::io::ErrorKind;
use std::path::Path;

/// Names that this crate gives files and folders of a run.
const OWN: [&str; 18] = [
    LOCK,
    "config.toml",
    "data.json",
    "plan.json",
    "corrupt_images.json",
    "metrics.jsonl",
    "tensorboard",
    "checkpoints",
    "paintings",
    "subnet",
    "dense",
    "finetune",
    "reference",
    "network",
    "latency.json",
    "sensitivity.json",
    "summary.json",
    "report.html",
];

/// Refuses a folder with files or folders of other names than those of a run: it is the user's.
///
/// `is_own` accepts further names; `expected` is the kind of folder.
///
/// # Errors
/// [`FolderError::Foreign`] with the first names; [`Error::Io`] if the folder cannot be read.
pub(crate) fn expect_own_names(
    what: &'static str,
    folder: &Path,
    is_own: impl Fn(&str) -> bool,
    expected: &str,
) -> Result<()> {
    let path = folder.to_path_buf();
    let found = match fs::metadata(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::io("read", folder, source)),
        Ok(metadata) if !metadata.is_dir() => "a file".into(),
        Ok(_) => {
            let mut names = names(folder)?;
            let accepted = |name: &str| is_leftover(name) || is_own(name);
            names.retain(|name| !name.to_str().is_some_and(accepted));
            if names.is_empty() {
                return Ok(());
            }
            format!("one with {}", listed(&names))
        }
    };
    let expected = format!("nothing there, an empty folder, or {expected}");
    Err(FolderError::Foreign { what, path, found, expected }.into())
}

/// Whether this crate gives a file or folder of a run this name.
pub(crate) fn is_run_name(name: &str) -> bool {
    OWN.contains(&name)
}

/// A lock file, or what a killed process left.
fn is_leftover(name: &str) -> bool {
    let ends = |ending| name.strip_suffix(ending).is_some_and(|rest| rest.len() > 1);
    name == LOCK || name.starts_with('.') && (ends(".partial") || ends(".replaced"))
}

/// Checks that a folder can be written, or be created where it is not there. Nothing is written.
///
/// # Errors
/// The operating system's reason: a path that is too long or leads through a file, a disk or folder
/// that is read-only.
#[cfg(feature = "pipeline")]
pub(crate) fn expect_writable(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "got an empty path, expected a folder",
        ));
    }
    for place in folder.ancestors() {
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        match fs::metadata(place) {
            Ok(metadata) if !metadata.is_dir() => {
                let reason = format!("{} is a file, expected a folder", place.display());
                return Err(io::Error::new(ErrorKind::NotADirectory, reason));
            }
            Ok(_) => return writable(place),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // Reached again, and named, at the file itself.
            Err(error) if error.kind() == ErrorKind::NotADirectory => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(all(feature = "pipeline", unix))]
fn writable(folder: &Path) -> io::Result<()> {
    use rustix::fs::{access, Access};
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

#[cfg(all(feature = "pipeline", not(unix)))]
fn writable(_: &Path) -> io::Result<()> {
    Ok(())
}
