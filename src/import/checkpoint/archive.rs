//! The zip archive that `torch.save` writes: `NAME/data.pkl`, `NAME/byteorder`, `NAME/data/KEY`.

use crate::error::CheckpointError;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use zip::result::ZipError;
use zip::ZipArchive;

/// Most entries. A model of thousands of layers has some ten thousand tensors.
const MAX_ENTRIES: u64 = 1 << 17;
/// Longest pickle read. That of a large model with its optimiser has about 1 MB.
const MAX_PICKLE: u64 = 8 << 20;
/// Real weights hardly compress; whoever claims more than this ratio is making us allocate.
const MAX_RATIO: u64 = 8;
/// What any file may unpack to, however small it is.
const FREE_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// The folder of all entries, with its slash.
    folder: String,
    /// Bytes that may still be unpacked.
    left: u64,
}

impl Archive {
    pub(super) fn open(mut file: File) -> Result<Self, CheckpointError> {
        let length = file.metadata()?.len();
        expect_few_entries(&mut file, length)?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged("its directory", e))?;
        let folder = zip.file_names().find_map(|name| {
            let folder = name.strip_suffix("data.pkl")?;
            (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_owned())
        });
        let Some(folder) = folder else {
            return Err(CheckpointError::EntryMissing { entry: "data.pkl".into() });
        };
        let left = length.saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES);
        let mut archive = Self { zip, folder, left };
        archive.expect_little_endian()?;
        Ok(archive)
    }

    /// The pickle that describes the checkpoint.
    pub(super) fn pickle(&mut self) -> Result<Vec<u8>, CheckpointError> {
        self.entry("data.pkl", MAX_PICKLE)
    }

    /// The bytes of a storage.
    pub(super) fn storage(&mut self, key: &str) -> Result<Vec<u8>, CheckpointError> {
        self.entry(&format!("data/{key}"), u64::MAX)
    }

    /// Archives older than torch 2.1 do not say; they are little-endian but for rare machines.
    fn expect_little_endian(&mut self) -> Result<(), CheckpointError> {
        let order = match self.entry("byteorder", 64) {
            Err(CheckpointError::EntryMissing { .. }) => return Ok(()),
            bytes => bytes?,
        };
        match &order[..] {
            b"little" => Ok(()),
            other => {
                let found = String::from_utf8_lossy(other).into_owned();
                Err(CheckpointError::ByteOrder { found })
            }
        }
    }

    /// An entry, whole and with the right checksum.
    fn entry(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, CheckpointError> {
        let name = format!("{}{name}", self.folder);
        let mut entry = match self.zip.by_name(&name) {
            Err(ZipError::FileNotFound) => {
                return Err(CheckpointError::EntryMissing { entry: name })
            }
            entry => entry.map_err(|error| damaged(&name, error))?,
        };
        let (actual, limit) = (entry.size(), limit.min(self.left));
        if actual > limit {
            return Err(CheckpointError::TooLarge { what: name, limit, actual });
        }
        self.left -= actual;
        let mut bytes = Vec::new();
        // One more than announced, so that a longer stream shows, and a whole one is checksummed.
        let read = entry.by_ref().take(actual.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| damaged(&name, error))?;
        if bytes.len() as u64 != actual {
            let found = format!("{} bytes where {actual} are announced", bytes.len());
            return Err(damaged(&name, std::io::Error::other(found)));
        }
        Ok(bytes)
    }
}

/// Memory is reserved for as many entries as the end of an archive claims. Without the extension for
/// large archives, these are at most 65,535.
fn expect_few_entries(file: &mut File, length: u64) -> Result<(), CheckpointError> {
    const LOCATOR: [u8; 4] = *b"PK\x06\x07";
    const END: [u8; 4] = *b"PK\x06\x06";
    /// The locator, what follows on it, and the longest comment.
    const TAIL: u64 = 20 + 22 + 65_535;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.by_ref().take(TAIL).read_to_end(&mut tail)?;
    let places = tail.windows(16).filter(|bytes| bytes.starts_with(&LOCATOR));
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    for locator in places {
        let mut end = Vec::new();
        file.seek(SeekFrom::Start(number(&locator[8..])))?;
        file.by_ref().take(40).read_to_end(&mut end)?;
        let claimed = end.get(32..40).filter(|_| end.starts_with(&END)).map_or(0, number);
        if claimed > MAX_ENTRIES {
            let (what, limit) = ("the number of entries".into(), MAX_ENTRIES);
            return Err(CheckpointError::TooMany { what, limit, actual: claimed });
        }
    }
    Ok(file.rewind()?)
}

fn damaged(
    entry: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> CheckpointError {
    CheckpointError::Archive { entry: entry.into(), source: source.into() }
}
