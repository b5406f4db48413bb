//! Errors of files and folders that this crate does not write.

use std::path::PathBuf;

/// File or folder that this crate does not write, because it is not its own or not free.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// Something that this crate did not write is in the place of what it would write. It is
    /// unchanged.
    #[error("{what} {}: got {found}, expected {expected}; give another path", path.display())]
    Foreign {
        /// What was to be written: an artifact, a checkpoint, a run, a file.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What may be there.
        expected: String,
    },

    /// A folder that another process writes to, or another part of this one.
    #[error(
        "run folder {}: got one in use by {holder}, expected a free one; wait until it has ended, \
         or give another folder",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Process, host and time.
        holder: String,
    },
}
