//! Folders that are replaced as a whole.

use super::leftovers::{expect_leftover, recover_folder, remove, remove_own};
use super::{
    followed, is_at, is_irregular, listed, lock_waiting, names, rename, sibling, sync, sync_parent,
};
use crate::checksums::CHECKSUMS;
use crate::error::FolderError;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

/// Kind of folder that this crate writes, and how one is told from a folder of another program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FolderKind {
    /// Its name in errors.
    pub(crate) what: &'static str,
    /// JSON file with the format, and the format in it.
    pub(crate) mark: (&'static str, &'static str),
    /// Names of the files that may be in it.
    pub(crate) files: &'static [&'static str],
    /// Whether a folder with no other files is ours, too, when its JSON file is damaged.
    pub(crate) damaged_is_own: bool,
}

/// The field of a JSON file that has its format.
#[derive(Deserialize)]
struct Mark {
    #[serde(default)]
    format: Value,
}

impl FolderKind {
    /// Returns whether this crate wrote the folder.
    pub(crate) fn is_own(&self, folder: &Path) -> bool {
        folder.is_dir() && matches!(self.foreign(folder), Ok(None))
    }

    /// Returns whether a folder of this kind has lost the file that it is told by: its checksums and
    /// other files are there.
    pub(crate) fn lost_mark(&self, folder: &Path) -> bool {
        let present = self.files.iter().filter(|name| folder.join(name).is_file());
        let has_checksums = folder.join(CHECKSUMS).is_file();
        has_checksums && present.count() > 1 && !folder.join(self.mark.0).exists()
    }

    /// Refuses a path at which [`write_folder`] would replace what this crate did not write: a file,
    /// or a folder with other contents.
    ///
    /// # Errors
    /// [`FolderError::Foreign`]; [`Error::Io`] if the folder cannot be read.
    pub(crate) fn expect_own(&self, path: &Path) -> Result<()> {
        let folder = &followed(path)?;
        let found = match fs::symlink_metadata(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(Error::io("read", folder, source)),
            Ok(metadata) if !metadata.is_dir() => Some("a file".to_string()),
            Ok(_) if names(folder)?.is_empty() => return Ok(()),
            Ok(_) => self.foreign(folder)?,
        };
        let Some(found) = found else { return Ok(()) };
        let (mark, format) = self.mark;
        let expected = format!(
            "nothing there, an empty folder, or one whose {mark} has the format {format:?}"
        );
        Err(FolderError::Foreign { what: self.what, path: folder.into(), found, expected }.into())
    }

    /// Returns what shows that another program wrote the folder; `None` if this crate did.
    fn foreign(&self, folder: &Path) -> Result<Option<String>> {
        let (mark, format) = self.mark;
        if is_irregular(&folder.join(mark)) {
            return Ok(Some(format!("one whose {mark} is a folder, pipe or device")));
        }
        let file = match File::open(folder.join(mark)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some(format!(
                    "one with {} and without {mark}",
                    listed(&names(folder)?)
                )));
            }
            Err(source) => return Err(Error::io("read", folder.join(mark), source)),
        };
        match serde_json::from_reader::<_, Mark>(BufReader::new(file)) {
            Ok(Mark { format: Value::String(found) }) if found == format => Ok(None),
            Ok(Mark { format: Value::Null }) => Ok(Some(format!("one whose {mark} has no format"))),
            Ok(Mark { format }) => Ok(Some(format!("one whose {mark} has the format {format}"))),
            Err(_) if self.damaged_is_own && self.others(folder)?.is_empty() => Ok(None),
            Err(_) => Ok(Some(format!("one whose {mark} is not valid JSON"))),
        }
    }

    /// Names of the entries that this crate does not write.
    pub(super) fn others(&self, folder: &Path) -> Result<Vec<String>> {
        let mut names = names(folder)?;
        names.retain(|name| !self.files.contains(&name.as_str()));
        Ok(names)
    }
}

/// Writes a folder atomically: `fill` writes to a temporary folder, which is synced and takes the
/// place of `path`. At every moment the former or the new folder is at `path`, or, where the file
/// system cannot exchange two folders, the former one beside it, where [`restore_folder`](super::restore_folder) finds it.
///
/// Where `path` is a symbolic link, the folder that it leads to is replaced and the link stays. Files
/// of the user's in the former folder are in the new one, too. Two processes that write the same
/// folder write it one after the other.
///
/// # Errors
/// [`FolderError::Foreign`] if something is at `path`, or at the hidden paths of its temporary folders,
/// that this crate did not write; [`Error::Invalid`] if
/// `path` has no file name; [`Error::Io`] if writing fails; those of `fill`. What is at `path` is
/// then unchanged, and the temporary folder is removed.
pub(crate) fn write_folder(
    path: &Path,
    kind: &FolderKind,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    write_folder_by(exchange, path, kind, fill)
}

/// [`write_folder`] with the operation that exchanges two folders.
pub(super) fn write_folder_by(
    exchange: fn(&Path, &Path) -> io::Result<()>,
    path: &Path,
    kind: &FolderKind,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let path = &followed(path)?;
    let (beside, replaced) = (sibling(path, "partial")?, sibling(path, "replaced")?);
    recover_folder(path, kind)?;
    kind.expect_own(path)?;
    expect_leftover(&replaced, kind)?;
    let _locked = partial_folder(path, &beside, kind)?;
    // Locked, too: once it is exchanged, no other process takes it for its temporary folder.
    let _former = File::open(path).inspect(lock_waiting);
    let written = fill(&beside)
        // Whole before the user's files are in it, so that it is told from a folder of theirs.
        .and_then(|()| sync_files(&beside))
        .and_then(|()| keep_others(kind, path, &beside))
        .and_then(|()| sync_files(&beside))
        .and_then(|()| place(exchange, &beside, path, &replaced));
    if written.is_err() {
        // The first error is reported, not one of the removal.
        let _ = remove_own(&beside, kind);
        return written;
    }
    // The former folder, under one of these names.
    remove_own(&beside, kind)?;
    remove_own(&replaced, kind)
}

/// Creates the temporary folder, empty and locked against other processes that write the same one.
///
/// # Errors
/// [`FolderError::Foreign`] if there is a folder that this crate did not write.
fn partial_folder(path: &Path, beside: &Path, kind: &FolderKind) -> Result<Option<File>> {
    loop {
        // A file in the way is named, all else is about `path`.
        let at = if beside.is_file() { beside } else { path };
        match fs::create_dir_all(beside) {
            // It was there, and another process has removed it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && !is_there(beside) => continue,
            other => other.map_err(|source| Error::io("create", at, source))?,
        }
        // Only Unix can open a folder to lock it.
        let folder = if cfg!(unix) { File::open(beside).ok() } else { None };
        folder.iter().for_each(lock_waiting);
        if !beside.is_symlink() && folder.as_ref().is_none_or(|folder| is_at(folder, beside)) {
            // Once locked: another process is not writing it.
            expect_leftover(beside, kind)?;
            for name in names(beside)? {
                remove(&beside.join(name))?;
            }
            return Ok(folder);
        }
        if beside.is_symlink() {
            return Err(Error::file(beside, "got a symbolic link, expected none; remove it"));
        }
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Moves the filled folder to `path`.
fn place(
    exchange: fn(&Path, &Path) -> io::Result<()>,
    beside: &Path,
    path: &Path,
    replaced: &Path,
) -> Result<()> {
    if !path.exists() {
        return rename(beside, path);
    }
    if exchange(beside, path).is_ok() {
        return sync_parent(path);
    }
    rename(path, replaced)?;
    rename(beside, path).inspect_err(|_| {
        // The first error is reported, not one of the way back.
        let _ = fs::rename(replaced, path);
    })
}

/// Exchanges two folders in one operation.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{renameat_with, RenameFlags, CWD};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Links or copies what the user put into the former folder into the new one.
fn keep_others(kind: &FolderKind, former: &Path, new: &Path) -> Result<()> {
    if !former.is_dir() {
        return Ok(());
    }
    let others = kind.others(former)?;
    // What was just written stays as it is.
    let mut others = others.iter().filter(|name| !new.join(name).exists());
    others.try_for_each(|name| keep(&former.join(name), &new.join(name)))
}

fn keep(from: &Path, to: &Path) -> Result<()> {
    let io = |source| Error::io("copy", from, source);
    if !fs::symlink_metadata(from).map_err(io)?.is_dir() {
        return fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop)).map_err(io);
    }
    fs::create_dir_all(to).map_err(io)?;
    names(from)?.iter().try_for_each(|name| keep(&from.join(name), &to.join(name)))
}

fn sync_files(folder: &Path) -> Result<()> {
    let files: Vec<PathBuf> = names(folder)?.iter().map(|name| folder.join(name)).collect();
    files.iter().filter(|path| path.is_file()).try_for_each(|path| sync(path))?;
    sync(folder)
}
