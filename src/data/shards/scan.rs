//! Positions of the samples of a shard, from the headers of its members.

use super::samples::{Member, Samples};
use super::window::{fill_at, Window};
use crate::error::ShardError;
use crate::{files, Error, Result};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::UNIX_EPOCH;
use tar::{Archive, Entry, EntryType, Header};

/// Bytes of a tar block: headers have one, and data are padded to it.
pub(super) const BLOCK: u64 = 512;
/// Most bytes of a header with its extensions, such as a long name, and of a class.
pub(super) const MOST_HEADER_BYTES: usize = 1 << 20;
/// Most zeros at the end of a shard. Writers pad to 10 KB.
const MOST_ZEROS: u64 = 1 << 20;

/// First bytes of compressed files.
const COMPRESSED: [(&str, &[u8]); 4] =
    [("gzip", b"\x1f\x8b"), ("bzip2", b"BZh"), ("xz", b"\xfd7zXZ"), ("zstd", b"\x28\xb5\x2f\xfd")];

/// Returns the format of a compressed file by its first bytes; `None` for another file.
pub(in crate::data) fn compression(start: &[u8]) -> Option<&'static str> {
    let known = COMPRESSED.iter().find(|(_, magic)| start.starts_with(magic));
    known.map(|(format, _)| *format)
}

/// Length of a shard and time of its last change, which tell whether it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Length in bytes.
    pub length: u64,
    /// Nanoseconds since 1970; 0 where the file system has no such time.
    pub modified: u64,
}

impl Stamp {
    pub fn of(file: &File) -> io::Result<Self> {
        let about = file.metadata()?;
        let since = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        Ok(Self { length: about.len(), modified })
    }
}

/// What a scan of a shard finds.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    pub stamp: Stamp,
    /// Samples in the order of the shard, at least one.
    pub members: Vec<Member>,
}

/// Why a scan ended early.
pub(super) enum Stop {
    Io(io::Error),
    Shard(ShardError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ShardError> for Stop {
    fn from(error: ShardError) -> Self {
        Self::Shard(error)
    }
}

/// Reads the headers and classes of a shard, and no image.
///
/// # Errors
/// [`Error::Shard`] for a damaged shard or one whose samples are incomplete; [`Error::Io`] for one
/// that cannot be read.
pub(super) fn scan(path: &Path) -> Result<Scan> {
    let unreadable = |source| Error::io("read", path, source);
    let file = files::open(path).map_err(unreadable)?;
    let stamp = Stamp::of(&file).map_err(unreadable)?;
    let members = members(&file, stamp.length).map_err(|stop| match stop {
        Stop::Io(source) => unreadable(source),
        Stop::Shard(source) => shard_error(path, source),
    })?;
    Ok(Scan { stamp, members })
}

/// Returns the error of a shard.
pub(super) fn shard_error(path: &Path, source: ShardError) -> Error {
    Error::Shard { path: path.into(), source: Box::new(source) }
}

fn members(file: &File, length: u64) -> Result<Vec<Member>, Stop> {
    let window = Window::new(file, 0);
    let mut archive = Archive::new(&window);
    let mut entries = archive.entries_with_seek()?;
    let mut samples = Samples::default();
    let mut next = 0;
    loop {
        window.allow(MOST_HEADER_BYTES);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|source| header_fault(file, &window, length, source))?;
        let start = next;
        let is_file = is_file(&entry)?;
        next = end(&entry, length)?;
        if is_file {
            samples.add(start, &mut entry)?;
        }
    }
    check_end(file, next, length)?;
    Ok(samples.finish()?)
}

/// Name of a member for messages.
pub(super) fn name<R: io::Read>(entry: &Entry<'_, R>) -> String {
    String::from_utf8_lossy(&entry.path_bytes()).into_owned()
}

/// Returns whether a member is a file; an error unless it is a file, a folder or a header for all
/// members.
fn is_file<R: io::Read>(entry: &Entry<'_, R>) -> Result<bool, ShardError> {
    let kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => return Ok(true),
        EntryType::Directory | EntryType::XGlobalHeader => return Ok(false),
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::GNUSparse => "a sparse file",
        EntryType::Char | EntryType::Block | EntryType::Fifo => "a device or pipe",
        _ => "an entry of an unknown type",
    };
    Err(ShardError::NotFile { member: name(entry), kind })
}

/// Position of the header after a member; an error if the shard ends before.
fn end<R: io::Read>(entry: &Entry<'_, R>, length: u64) -> Result<u64, ShardError> {
    let (start, expected) = (entry.raw_file_position(), entry.size());
    let found = length.saturating_sub(start);
    if found < expected {
        return Err(ShardError::TruncatedMember { member: name(entry), expected, found });
    }
    Ok(start + expected.next_multiple_of(BLOCK))
}

/// Returns what is wrong with the header that the tar reader refused.
fn header_fault(file: &File, window: &Window, length: u64, source: io::Error) -> Stop {
    if source.raw_os_error().is_some() {
        return Stop::Io(source);
    }
    // The reader has read the header, or what is left of it.
    let offset = window.position().saturating_sub(1) / BLOCK * BLOCK;
    if source.kind() == ErrorKind::InvalidData {
        return ShardError::Header { offset, source }.into();
    }
    if length < offset + BLOCK {
        return ShardError::TruncatedHeader { offset, found: length.saturating_sub(offset) }.into();
    }
    let mut bytes = [0; BLOCK as usize];
    if let Err(error) = fill_at(file, &mut bytes, offset) {
        return Stop::Io(error);
    }
    if let Some(format) = compression(&bytes).filter(|_| offset == 0) {
        return ShardError::Compressed { format }.into();
    }
    let header = Header::from_byte_slice(&bytes);
    let mut right = header.clone();
    right.set_cksum();
    match (header.cksum(), right.cksum()) {
        (stated, Ok(computed)) if !stated.as_ref().is_ok_and(|&stated| stated == computed) => {
            let field = String::from_utf8_lossy(&bytes[148..156]);
            let stated = stated.map_or_else(|_| format!("{field:?}"), |stated| stated.to_string());
            ShardError::Checksum { offset, stated, computed }.into()
        }
        _ => ShardError::Header { offset, source }.into(),
    }
}

/// Checks that there is a block of zeros at `end`, and only zeros after it, not too many.
fn check_end(file: &File, end: u64, length: u64) -> Result<(), Stop> {
    let found = length.saturating_sub(end);
    if found < BLOCK {
        return Err(ShardError::NoEnd { length }.into());
    }
    let mut bytes = vec![0; found.min(MOST_ZEROS) as usize];
    let filled = fill_at(file, &mut bytes, end)?;
    if bytes[..filled].iter().any(|&byte| byte != 0) {
        return Err(ShardError::AfterEnd { end }.into());
    }
    if found > MOST_ZEROS {
        return Err(ShardError::Zeros { end, found, most: MOST_ZEROS }.into());
    }
    Ok(())
}
