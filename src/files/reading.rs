//! Reading of folders that another process may replace meanwhile.

use super::{restore_folder, FolderKind};
use crate::Result;
use std::path::Path;

/// Times that a folder is read before what was read last is returned.
const MOST_READS: usize = 10;

/// Reads the files of a folder that [`write_folder`](super::write_folder) wrote: all from the former
/// folder or all from the new one, if another process replaces it meanwhile.
///
/// # Errors
/// Those of `read`; [`Error::Io`](crate::Error::Io) if an interrupted replacement cannot be undone.
pub(crate) fn read_folder<T>(
    path: &Path,
    kind: &FolderKind,
    read: impl Fn(&Path) -> Result<T>,
) -> Result<T> {
    let mut left = MOST_READS;
    loop {
        restore_folder(path, kind)?;
        let before = identity(path);
        let result = read(path);
        left -= 1;
        if left == 0 || identity(path) == before {
            return result;
        }
    }
}

/// Device and number of a folder; another one in its place has others.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<(u64, u64)> {
    None
}
