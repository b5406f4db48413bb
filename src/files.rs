//! Files that are either whole or not there, even after a power cut.

use crate::{Error, Result};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes beside and renames: readers see the old file or the new one, never half of it.
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

/// Fills a folder beside `path` and renames it there. A folder of that name is replaced if it is
/// empty or holds the file `mark`, which says that it is one of ours.
pub(crate) fn write_folder(
    path: &Path,
    mark: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let (beside, replaced) = (sibling(path, "partial")?, sibling(path, "replaced")?);
    recover_folder(path)?;
    if path.exists() && !path.join(mark).is_file() && !is_empty(path)? {
        let reason = format!("there is something else there (no {mark}), which is not overwritten");
        return Err(Error::file(path, reason));
    }
    remove_folder(&beside)?;
    fs::create_dir_all(&beside).map_err(|source| Error::io("create", &beside, source))?;
    if let Err(error) = fill(&beside).and_then(|()| sync_folder(&beside)) {
        // The reason for the failure matters more than one for not clearing up.
        let _ = remove_folder(&beside);
        return Err(error);
    }
    if path.exists() {
        rename(path, &replaced)?;
    }
    rename(&beside, path)?;
    remove_folder(&replaced)
}

/// Puts back the folder that was about to be replaced when the program died.
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

/// Renames, for good: the folder that holds the name is on the disk too.
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

/// Brings a file or the entries of a folder to the disk.
fn sync(path: &Path) -> Result<()> {
    // Elsewhere folders cannot be opened, and their entries need no such care.
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    let synced = fs::File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|source| Error::io("sync", path, source))
}

/// A hidden path beside `path`: `.NAME.ending`.
fn sibling(path: &Path, ending: &str) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        let actual = path.display().to_string();
        return Err(Error::invalid("path to write", "one that ends in a name", actual));
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
    fn a_folder_is_replaced_by_its_like_and_by_nothing_else() {
        let root = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let (own, old) = (root.path().join("net.0.5"), root.path().join("net.0.old"));
        // A backup by a name we might have chosen for ourselves.
        assert!(fs::create_dir_all(&old).is_ok() && fs::write(old.join("backup"), "b").is_ok());
        assert!(write_folder(&own, MARK, fill("first")).is_ok());
        assert!(write_folder(&own, MARK, fill("second")).is_ok());
        assert_eq!(text(&own).as_deref(), Some("second"));
        assert_eq!(names(root.path()), ["net.0.5", "net.0.old"]);
        // Something else is there.
        let refused = write_folder(&old, MARK, fill("third"));
        assert!(matches!(refused, Err(Error::File { ref path, .. }) if *path == old));
        assert_eq!(names(&old), ["backup"]);
        // What is there stays when the new one fails.
        let failed = write_folder(&own, MARK, |_| Err(Error::invalid("a", "b", "c")));
        assert!(failed.is_err());
        assert_eq!((text(&own).as_deref(), names(root.path()).len()), (Some("second"), 2));
    }

    #[test]
    fn paths_without_a_name_are_refused() {
        for path in [".", "..", "/", "somewhere/.."] {
            let refused = write_folder(Path::new(path), MARK, fill("text"));
            assert!(matches!(refused, Err(Error::Invalid { .. })), "{path}: {refused:?}");
        }
    }

    #[test]
    fn a_folder_that_was_moved_away_comes_back() {
        let root = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let own = root.path().join("best");
        assert!(write_folder(&own, MARK, fill("kept")).is_ok());
        // Died between the two renames.
        assert!(fs::rename(&own, root.path().join(".best.replaced")).is_ok());
        assert!(recover_folder(&own).is_ok());
        assert_eq!(text(&own).as_deref(), Some("kept"));
        assert_eq!(names(root.path()), ["best"]);
    }
}
