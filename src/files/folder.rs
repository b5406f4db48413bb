//! Folders that are replaced as a whole.

use super::leftovers::{expect_leftover, make_writable, recover_folder, remove, remove_own};
use super::{
    followed, is_at, is_irregular, listed, lock_folder, lock_waiting, names, sibling, sync,
    sync_parent,
};
use crate::checksums::CHECKSUMS;
use crate::error::FolderError;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::ffi::OsString;
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

/// Times that the filled folder is moved to its path.
const MOST_MOVES: usize = 100;

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
    pub(super) fn others(&self, folder: &Path) -> Result<Vec<OsString>> {
        let mut names = names(folder)?;
        names.retain(|name| !self.files.iter().any(|own| name == own));
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
/// then unchanged, and the temporary folder is removed. Once the new folder is at `path`, it stays: a former folder that
/// cannot be removed is a warning, and an error says that the move may not outlast a power failure.
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
    let beside = &sibling(path, "partial")?;
    let _locked = partial_folder(path, beside, kind)?;
    replace(exchange, beside, path, kind, fill).inspect_err(|_| {
        // The first error is reported, not one of the removal.
        let _ = remove_own(beside, kind);
    })
}

/// Fills the temporary folder, moves it to `path`, and removes the former one.
fn replace(
    exchange: fn(&Path, &Path) -> io::Result<()>,
    beside: &Path,
    path: &Path,
    kind: &FolderKind,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    // Once `beside` is locked, no other process is between its two renames.
    recover_folder(path, kind)?;
    kind.expect_own(path)?;
    let replaced = &sibling(path, "replaced")?;
    expect_leftover(replaced, kind)?;
    // Locked, too: once it is moved, no other process takes it for that of a killed one.
    let _former = lock_folder(path);
    fill(beside)?;
    // Whole before the user's files are in it, so that it is told from a folder of theirs.
    sync_files(beside)?;
    keep_others(kind, path, beside)?;
    sync_files(beside)?;
    let former = place(exchange, [beside, path, replaced], kind)?;
    let synced = sync_parent(path);
    let removed = former.map_or(Ok(()), |at| remove_own(at, kind));
    if let Err(reason) = removed {
        let path = path.display();
        tracing::warn!(%path, %reason, "folder is written; removing the former one failed");
    }
    synced
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
        let folder = match File::open(beside) {
            _ if !cfg!(unix) => None,
            // Another process has moved or removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            opened => opened.inspect(lock_waiting).ok(),
        };
        if !beside.is_symlink() && folder.as_ref().is_none_or(|folder| is_at(folder, beside)) {
            // Once locked: another process is not writing it.
            expect_leftover(beside, kind)?;
            make_writable(beside);
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

/// Moves the filled folder from `beside` to `path`, and returns where the former one is then: at `beside` or
/// `replaced`, or nowhere if there was none.
fn place<'a>(
    exchange: fn(&Path, &Path) -> io::Result<()>,
    [beside, path, replaced]: [&'a Path; 3],
    kind: &FolderKind,
) -> Result<Option<&'a Path>> {
    let io = |source| Error::io("rename", path, source);
    let mut left = MOST_MOVES;
    loop {
        let is_there = path.exists();
        if is_there && exchange(beside, path).is_ok() {
            return Ok(Some(beside));
        }
        if is_there {
            fs::rename(path, replaced).map_err(io)?;
        }
        left -= 1;
        match fs::rename(beside, path) {
            Ok(()) => return Ok(is_there.then_some(replaced)),
            // Where there are no locks, a reader may have restored the former folder in between.
            Err(_) if left > 0 && kind.is_own(path) => {}
            Err(source) => {
                // The first error is reported, not one of the way back.
                let _ = fs::rename(replaced, path);
                return Err(io(source));
            }
        }
    }
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
