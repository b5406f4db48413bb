//! Writes that are complete or absent, even after a kill or a power failure; ownership of run folders.

mod appended;
mod folder;
mod json;
mod leftovers;
mod owner;
mod reading;
mod regular;
mod run_folder;
#[cfg(test)]
mod tests;

pub(crate) use appended::Appended;
pub(crate) use folder::{write_folder, FolderKind};
#[cfg(feature = "pipeline")]
pub(crate) use json::if_there;
pub(crate) use json::{read_json, write_json};
pub(crate) use leftovers::{discard_folder, remove_leftovers, restore_folder};
pub(crate) use owner::{Owner, Part};
pub(crate) use reading::read_folder;
#[cfg(feature = "data")]
pub(crate) use regular::irregular;
pub(crate) use regular::{is_irregular, open, read, read_to_string};
#[cfg(feature = "pipeline")]
pub(crate) use run_folder::expect_writable;
pub(crate) use run_folder::{expect_own_names, is_run_name};

use crate::error::FolderError;
use crate::{Error, Result};
use fs4::FileExt;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Symbolic links that are followed one after the other, as Linux allows.
const MOST_LINKS: usize = 40;

/// Writes a file atomically; [`write_with`] documents how.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| {
        file.write_all(bytes).map_err(|source| Error::io("write", path, source))
    })
}

/// Writes a file atomically: to a temporary file in the same folder, which is synced and renamed.
///
/// Where `path` is a symbolic link, the file that it leads to is replaced and the link stays. Two
/// processes that write the same file write it one after the other.
///
/// # Errors
/// [`Error::Io`] naming `path`, or that of `fill`; [`FolderError::Foreign`] if `path` is a folder or a
/// device. The former file is then unchanged, and the temporary one removed. Once the new file is at `path`, it
/// stays: an error says that its name may not outlast a power failure.
pub(crate) fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<()> {
    let io = |source| Error::io("write", path, source);
    let target = followed(path)?;
    expect_file(&target)?;
    let beside = sibling(&target, "partial")?;
    let mut out = BufWriter::new(partial_file(&beside).map_err(io)?);
    let written = fill(&mut out)
        .and_then(|()| out.flush().map_err(io))
        .and_then(|()| out.get_ref().sync_all().map_err(io))
        .and_then(|()| rename_unsynced(&beside, &target));
    if written.is_err() {
        // The first error is reported, not one of the removal.
        let _ = fs::remove_file(&beside);
    }
    // Outside of what removes the temporary file: after the move, one there is another process's.
    written.and_then(|()| sync_parent(&target))
}

/// Writes a file of a folder that [`write_folder`] fills, which syncs it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|source| Error::io("write", path, source))
}

/// Refuses to write a file in the place of a folder, a device or a pipe.
fn expect_file(path: &Path) -> Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        Ok(metadata) if metadata.is_dir() => "a folder",
        Ok(_) => "a device, pipe or socket",
        Err(_) => return Ok(()),
    };
    let (found, expected) = (found.into(), "a file or nothing".into());
    Err(FolderError::Foreign { what: "file", path: path.into(), found, expected }.into())
}

/// Opens the temporary file, empty and locked against other processes that write the same file.
fn partial_file(beside: &Path) -> io::Result<File> {
    loop {
        // Opening a pipe would wait for its reader.
        if is_irregular(beside) {
            return Err(regular::irregular(beside));
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(beside)?;
        lock_waiting(&file);
        if is_at(&file, beside) {
            file.set_len(0)?;
            return Ok(file);
        }
        if beside.is_symlink() {
            fs::remove_file(beside)?;
        }
    }
}

/// Locks a file or folder once no other process has it locked. Where the file system has no locks,
/// it stays unlocked.
fn lock_waiting(file: &File) {
    while matches!(FileExt::lock(file), Err(error) if error.kind() == ErrorKind::Interrupted) {}
}

/// Opens a folder and locks it once no other process has it locked; `None` where there is no folder, and
/// on systems that cannot open one.
fn lock_folder(folder: &Path) -> Option<File> {
    // Opening a pipe would wait for its writer.
    if cfg!(unix) && folder.is_dir() {
        File::open(folder).inspect(lock_waiting).ok()
    } else {
        None
    }
}

/// Whether the open file is still the one at `path`, which another process may have renamed.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (own, other) = (file.metadata().map(place), fs::symlink_metadata(path).map(place));
    matches!((own, other), (Ok(own), Ok(other)) if own == other)
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Returns the path that the symbolic links at `path` lead to; nothing need be there.
fn followed(path: &Path) -> Result<PathBuf> {
    // Without a slash at the end, which would follow a link itself.
    let mut place: PathBuf = path.components().collect();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&place) else { return Ok(place) };
        place = place.parent().unwrap_or(Path::new("")).join(target);
    }
    let reason = format!("got more than {MOST_LINKS} symbolic links, expected an end of them");
    Err(Error::file(path, reason))
}

/// Renames and syncs the parent folder, so that the new name survives a power failure.
fn rename(from: &Path, to: &Path) -> Result<()> {
    rename_unsynced(from, to)?;
    sync_parent(to)
}

fn rename_unsynced(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|source| Error::io("rename", to, source))
}

fn sync_parent(path: &Path) -> Result<()> {
    sync(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Syncs a file, or the entries of a folder, to the disk. Where the file system cannot sync folders, as that of the
/// shared folders of VirtualBox, their entries stay as they are.
fn sync(path: &Path) -> Result<()> {
    // Only Unix can open a folder to sync it.
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    let synced = File::open(path).and_then(|file| match file.sync_all() {
        Err(error) if is_no_operation(&error) && path.is_dir() => Ok(()),
        synced => synced,
    });
    synced.map_err(|source| Error::io("sync", path, source))
}

/// Whether an error says that a file system does not have an operation, not that the operation failed.
fn is_no_operation(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

/// Returns the hidden path `.NAME.ending` in the folder of `path`.
fn sibling(path: &Path, ending: &str) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        let actual = path.display().to_string();
        return Err(Error::invalid("path to write", "a path that ends in a file name", actual));
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(ending);
    Ok(path.with_file_name(hidden))
}

/// Names of the entries of a folder, sorted. They need not be UTF-8.
fn names(folder: &Path) -> Result<Vec<OsString>> {
    let io = |source| Error::io("read", folder, source);
    let entries = fs::read_dir(folder).map_err(io)?;
    let mut names =
        entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().map_err(io)?;
    names.sort();
    Ok(names)
}

/// The first names of a list, as "a, b, c and 5 more".
fn listed(names: &[OsString]) -> String {
    const LISTED: usize = 3;
    let first: Vec<_> = names.iter().take(LISTED).map(|name| name.to_string_lossy()).collect();
    let first = first.join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
