//! Atomic writes of files and folders: complete or absent, even after a power failure.

use crate::{Error, Result};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes a file atomically: to a temporary file in the same folder, which is synced and renamed.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = sibling(path, "partial")?;
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| Error::io("write", &beside, source))?;
    rename(&beside, path)
}

/// Writes a folder atomically: `fill` writes to a temporary folder, which is synced and renamed to
/// `path`.
///
/// An existing folder at `path` is replaced if it is empty or holds a file named `mark`, the sign
/// that this function wrote it.
///
/// # Errors
/// [`Error::File`] if something else is at `path`; [`Error::Invalid`] if `path` has no file name;
/// [`Error::Io`] if writing fails; those of `fill`. The existing folder is then unchanged.
pub(crate) fn write_folder(
    path: &Path,
    mark: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let (beside, replaced) = (sibling(path, "partial")?, sibling(path, "replaced")?);
    recover_folder(path)?;
    if path.exists() && !path.join(mark).is_file() && !is_empty(path)? {
        let reason = format!(
            "folder to write: got one with other files, expected none, an empty one, or one with \
             {mark}; choose another path"
        );
        return Err(Error::file(path, reason));
    }
    remove_folder(&beside)?;
    fs::create_dir_all(&beside).map_err(|source| Error::io("create", &beside, source))?;
    if let Err(error) = fill(&beside).and_then(|()| sync_folder(&beside)) {
        // The first error is reported, not one of the removal.
        let _ = remove_folder(&beside);
        return Err(error);
    }
    if path.exists() {
        rename(path, &replaced)?;
    }
    rename(&beside, path)?;
    remove_folder(&replaced)
}

/// Restores the former folder at `path` if the process ended between the two renames of
/// [`write_folder`].
pub(crate) fn recover_folder(path: &Path) -> Result<()> {
    let replaced = sibling(path, "replaced")?;
    match path.exists() {
        true => remove_folder(&replaced),
        false if replaced.exists() => rename(&replaced, path),
        false => Ok(()),
    }
}

pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// Renames and syncs the parent folder, so that the new name survives a power failure.
fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|source| Error::io("rename", to, source))?;
    sync(to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

fn is_empty(folder: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(folder).map_err(|source| Error::io("read", folder, source))?;
    Ok(entries.next().is_none())
}

fn sync_folder(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|source| Error::io("read", folder, source))?;
    for entry in entries {
        sync(&entry.map_err(|source| Error::io("read", folder, source))?.path())?;
    }
    sync(folder)
}

/// Syncs a file, or the entries of a folder, to the disk.
fn sync(path: &Path) -> Result<()> {
    // Only Unix can open a folder to sync it.
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    let synced = fs::File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|source| Error::io("sync", path, source))
}

/// Returns the hidden path `.NAME.ending` in the folder of `path`.
fn sibling(path: &Path, ending: &str) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        let actual = path.display().to_string();
        return Err(Error::invalid("path to write", "a path that ends in a file name", actual));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(ending);
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "mark";

    fn fill(text: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |folder| write_atomically(&folder.join(MARK), text.as_bytes())
    }

    fn text(folder: &Path) -> Option<String> {
        fs::read_to_string(folder.join(MARK)).ok()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into()).collect();
        names.sort();
        names
    }

    #[test]
    fn write_folder_over_other_files_or_with_failing_fill_keeps_what_was_there() {
        let root = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let (own, old) = (root.path().join("net.0.5"), root.path().join("net.0.old"));
        // A folder of the user's, with a name like that of a temporary folder.
        assert!(fs::create_dir_all(&old).is_ok() && fs::write(old.join("backup"), "b").is_ok());
        assert!(write_folder(&own, MARK, fill("first")).is_ok());
        assert!(write_folder(&own, MARK, fill("second")).is_ok());
        assert_eq!(text(&own).as_deref(), Some("second"));
        assert_eq!(names(root.path()), ["net.0.5", "net.0.old"]);
        let refused = write_folder(&old, MARK, fill("third"));
        assert!(matches!(refused, Err(Error::File { ref path, .. }) if *path == old));
        assert_eq!(names(&old), ["backup"]);
        let failed = write_folder(&own, MARK, |_| Err(Error::invalid("a", "b", "c")));
        assert!(failed.is_err());
        assert_eq!((text(&own).as_deref(), names(root.path()).len()), (Some("second"), 2));
    }

    #[test]
    fn write_folder_to_path_without_file_name_is_rejected() {
        for path in [".", "..", "/", "somewhere/.."] {
            let refused = write_folder(Path::new(path), MARK, fill("text"));
            assert!(matches!(refused, Err(Error::Invalid { .. })), "{path}: {refused:?}");
        }
    }

    #[test]
    fn recover_folder_after_interrupted_replacement_restores_the_former_folder() {
        let root = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let own = root.path().join("best");
        assert!(write_folder(&own, MARK, fill("kept")).is_ok());
        // As if the process had ended between the two renames.
        assert!(fs::rename(&own, root.path().join(".best.replaced")).is_ok());
        assert!(recover_folder(&own).is_ok());
        assert_eq!(text(&own).as_deref(), Some("kept"));
        assert_eq!(names(root.path()), ["best"]);
    }
}
