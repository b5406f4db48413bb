//! What a killed process leaves of a folder that is replaced or removed: told from the user's, restored, removed.

use super::{followed, is_at, listed, lock_folder, names, rename, sibling, FolderKind};
use crate::error::FolderError;
use crate::{Error, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Restores the former folder at `path` if a process ended between the two renames that replace a
/// folder where the file system cannot exchange two; removes it if the new one is in place. Waits for a
/// process that is still removing it.
pub(crate) fn recover_folder(path: &Path, kind: &FolderKind) -> Result<()> {
    let path = &followed(path)?;
    restore_folder(path, kind)?;
    let Ok(replaced) = sibling(path, "replaced") else { return Ok(()) };
    let _locked = lock_folder(&replaced);
    if path.exists() && kind.is_own(&replaced) {
        remove_own(&replaced, kind)?;
    }
    Ok(())
}

/// Restores the former folder at `path` as [`recover_folder`] does, and removes nothing: for readers
/// of a folder that another process may write. Waits for a process that is between its two renames.
pub(crate) fn restore_folder(path: &Path, kind: &FolderKind) -> Result<()> {
    let path = &followed(path)?;
    let Ok(replaced) = sibling(path, "replaced") else { return Ok(()) };
    if path.exists() || !kind.is_own(&replaced) {
        return Ok(());
    }
    loop {
        let locked = lock_folder(&replaced);
        if path.exists() {
            return Ok(());
        }
        let moved = locked.as_ref().is_some_and(|folder| !is_at(folder, &replaced));
        // A link is never the folder that it leads to.
        if !moved || replaced.is_symlink() {
            break;
        }
        // Another process has moved the folder that was locked, and may have replaced yet another one.
    }
    match rename(&replaced, path) {
        // Another process was faster.
        Err(_) if path.exists() => Ok(()),
        restored => restored,
    }
}

/// Removes what killed processes left of the folders whose names `is_own` accepts, in a folder that
/// this process owns.
pub(crate) fn remove_leftovers(
    folder: &Path,
    kind: &FolderKind,
    is_own: impl Fn(&str) -> bool,
) -> Result<()> {
    for name in names(folder)? {
        let hidden = name.to_str().and_then(|name| name.strip_prefix('.'));
        let Some((own, ending)) = hidden.and_then(|name| name.rsplit_once('.')) else { continue };
        match ending {
            "partial" if is_own(own) && is_leftover(&folder.join(&name), kind)? => {
                remove_own(&folder.join(&name), kind)?;
            }
            "replaced" if is_own(own) => recover_folder(&folder.join(own), kind)?,
            _ => {}
        }
    }
    Ok(())
}

/// Removes a folder that this crate wrote: it is renamed first, so that a kill leaves no half of it
/// at `path`. [`remove_leftovers`] removes what a kill leaves beside it.
///
/// # Errors
/// [`FolderError::Foreign`] if a folder that this crate did not write has the hidden name; both stay
/// then. [`Error::Io`] if it cannot be renamed or removed.
pub(crate) fn discard_folder(path: &Path, kind: &FolderKind) -> Result<()> {
    discard_folder_by(remove_own, path, kind)
}

/// [`discard_folder`] with the operation that removes the renamed folder.
pub(super) fn discard_folder_by(
    remove: fn(&Path, &FolderKind) -> Result<()>,
    path: &Path,
    kind: &FolderKind,
) -> Result<()> {
    let beside = sibling(path, "partial")?;
    expect_leftover(&beside, kind)?;
    remove_own(&beside, kind)?;
    rename(path, &beside)?;
    remove(&beside, kind)
}

/// Refuses a hidden path at which there is a folder that this crate did not write.
///
/// # Errors
/// [`FolderError::Foreign`]; [`Error::Io`] if the folder cannot be read.
pub(super) fn expect_leftover(folder: &Path, kind: &FolderKind) -> Result<()> {
    if !folder.is_dir() || is_leftover(folder, kind)? {
        return Ok(());
    }
    let found = format!("one with {}", listed(&names(folder)?));
    let expected = "nothing there, or a temporary folder of this library; move it away".into();
    Err(FolderError::Foreign { what: kind.what, path: folder.into(), found, expected }.into())
}

/// Whether a killed process of this crate may have left the folder: whole, or with a part of its own
/// files and no others. The mark alone may be incomplete.
fn is_leftover(folder: &Path, kind: &FolderKind) -> Result<bool> {
    if !folder.is_dir() {
        return Ok(false);
    }
    let kind = FolderKind { damaged_is_own: true, ..*kind };
    let marked = fs::symlink_metadata(folder.join(kind.mark.0)).is_ok();
    Ok(kind.is_own(folder) || !marked && kind.others(folder)?.is_empty())
}

/// Removes a folder that this crate wrote, if it is there. The mark goes last: until then, what is
/// left is told from a folder of the user's.
pub(super) fn remove_own(folder: &Path, kind: &FolderKind) -> Result<()> {
    // Of a symbolic link, the link alone.
    if folder.is_dir() && !folder.is_symlink() {
        make_writable(folder);
        for name in names(folder)?.iter().filter(|name| *name != kind.mark.0) {
            remove(&folder.join(name))?;
        }
    }
    remove_folder(folder)
}

/// Removes a folder with everything in it, if it is there.
fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// Makes a folder and all folders in it writable by their owner, so that a user's folder that is read-only
/// can be removed. What cannot be changed stays: the removal then says why it fails.
#[cfg(unix)]
pub(super) fn make_writable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = fs::symlink_metadata(folder) else { return };
    if !metadata.is_dir() {
        return;
    }
    let writable = fs::Permissions::from_mode(metadata.permissions().mode() | 0o700);
    let _ = fs::set_permissions(folder, writable);
    names(folder).into_iter().flatten().for_each(|name| make_writable(&folder.join(name)));
}

#[cfg(not(unix))]
pub(super) fn make_writable(_: &Path) {}

/// Removes a file, or a folder with everything in it.
pub(super) fn remove(path: &Path) -> Result<()> {
    if path.is_dir() && !path.is_symlink() {
        return remove_folder(path);
    }
    fs::remove_file(path).map_err(|source| Error::io("remove", path, source))
}
