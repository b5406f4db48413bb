//! Files that are either whole or not there.

use crate::{Error, Result};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes beside and renames: readers see the old file or the new one, never half of it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = beside(path);
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| Error::io("write", &beside, source))?;
    fs::rename(&beside, path).map_err(|source| Error::io("rename", path, source))
}

/// Fills a folder beside `path` and renames it there; an older folder of that name is replaced.
pub(crate) fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let beside = beside(path);
    remove_folder(&beside)?;
    fs::create_dir_all(&beside).map_err(|source| Error::io("create", &beside, source))?;
    if let Err(error) = fill(&beside) {
        // The reason for the failure matters more than one for not clearing up.
        let _ = remove_folder(&beside);
        return Err(error);
    }
    let replaced = path.with_extension("old");
    remove_folder(&replaced)?;
    if path.exists() {
        fs::rename(path, &replaced).map_err(|source| Error::io("rename", path, source))?;
    }
    fs::rename(&beside, path).map_err(|source| Error::io("rename", path, source))?;
    remove_folder(&replaced)
}

pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}
