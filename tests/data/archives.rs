//! Tar archives for the tests.

use crate::support::TestResult;
use std::fs;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// An archive of these files.
pub fn archive(files: &[(&str, &[u8])]) -> TestResult<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (name, content) in files {
        append(&mut builder, name, content)?;
    }
    Ok(builder.into_inner()?)
}

/// Appends a file; a long name gets GNU's extension.
pub fn append(builder: &mut Builder<Vec<u8>>, name: &str, content: &[u8]) -> TestResult {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    Ok(builder.append_data(&mut header, name, content)?)
}

/// An archive with a member that is no file.
pub fn archive_with(name: &str, kind: EntryType) -> TestResult<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_entry_type(kind);
    builder.append_link(&mut header, name, "elsewhere")?;
    append(&mut builder, "a.jpg", b"image")?;
    append(&mut builder, "a.cls", b"0")?;
    Ok(builder.into_inner()?)
}

/// Writes a shard.
pub fn put(folder: &TempDir, name: &str, bytes: &[u8]) -> TestResult<PathBuf> {
    let path = folder.path().join(name);
    fs::write(&path, bytes)?;
    Ok(path)
}

/// A path as a pattern.
pub fn pattern(path: &Path) -> TestResult<&str> {
    Ok(path.to_str().ok_or("a path in UTF-8")?)
}
