//! The zip archive that `torch.save` writes: `NAME/data.pkl`, `NAME/byteorder`, `NAME/data/KEY`.

use crate::error::CheckpointError;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use zip::{ZipArchive, ZipReadOptions};

/// Limit on entries of an archive: a model of thousands of layers has about 10,000 tensors.
const MAX_ENTRIES: u64 = 1 << 17;
/// Limit on the pickle's length: that of a large model with its optimiser has about 1 MB.
const MAX_PICKLE: u64 = 8 << 20;
/// Limit on unpacked over packed bytes: weights hardly compress, and a larger ratio only makes the
/// reader allocate.
const MAX_RATIO: u64 = 8;
/// Bytes that every file may unpack to, in addition to the ratio.
const FREE_BYTES: u64 = 1 << 20;

/// A torch archive, open for reading.
#[derive(Debug)]
pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// Folder of all entries, with the final slash.
    folder: String,
    /// Bytes that may still be unpacked.
    left: u64,
    /// Whether the entries have checksums.
    has_checksums: bool,
}

impl Archive {
    pub(super) fn open(mut file: File) -> Result<Self, CheckpointError> {
        let length = file.metadata()?.len();
        expect_few_entries(&mut file, length)?;
        let mut zip =
            ZipArchive::new(BufReader::new(file)).map_err(|e| damaged("the directory", e))?;
        let folder = zip.file_names().find_map(|name| {
            let folder = name.strip_suffix("data.pkl")?;
            (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_owned())
        });
        let Some(folder) = folder else {
            let is_numpy = zip.file_names().any(|name| name.ends_with(".npy"));
            let missing = CheckpointError::EntryMissing { entry: "data.pkl".into() };
            return Err(if is_numpy { NUMPY } else { missing });
        };
        // A compiled program has its constants beside the data.
        if zip.index_for_name(&format!("{folder}constants.pkl")).is_some() {
            return Err(TORCHSCRIPT);
        }
        let has_checksums = has_checksums(&mut zip)?;
        let left = length.saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES);
        let mut archive = Self { zip, folder, left, has_checksums };
        archive.expect_little_endian()?;
        Ok(archive)
    }

    /// Reads `data.pkl`, which describes the checkpoint.
    pub(super) fn pickle(&mut self) -> Result<Vec<u8>, CheckpointError> {
        self.entry("data.pkl", MAX_PICKLE)
    }

    /// Reads the bytes of a storage.
    pub(super) fn storage(&mut self, key: &str) -> Result<Vec<u8>, CheckpointError> {
        self.entry(&format!("data/{key}"), u64::MAX)
    }

    /// Counts bytes that are made of the archive's, against the same limit.
    pub(super) fn charge(&mut self, what: &str, bytes: u64) -> Result<(), CheckpointError> {
        if bytes > self.left {
            let (what, limit) = (what.into(), self.left);
            return Err(CheckpointError::TooLarge { what, limit, actual: bytes });
        }
        self.left -= bytes;
        Ok(())
    }

    /// Archives older than torch 2.1 have no entry `byteorder`, and count as little-endian.
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

    /// Reads an entry completely and compares its checksum, if there is one.
    fn entry(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, CheckpointError> {
        let name = format!("{}{name}", self.folder);
        let Some(index) = self.zip.index_for_name(&name) else {
            return Err(CheckpointError::EntryMissing { entry: name });
        };
        let options = ZipReadOptions::new().ignore_crc32(!self.has_checksums);
        let entry = self.zip.by_index_with_options(index, options);
        let mut entry = entry.map_err(|error| damaged(&name, error))?;
        let (actual, limit) = (entry.size(), limit.min(self.left));
        if actual > limit {
            return Err(CheckpointError::TooLarge { what: name, limit, actual });
        }
        self.left -= actual;
        let mut bytes = Vec::new();
        // One byte more than announced: shows a longer stream, and the reader compares the checksum
        // only at the end of the stream.
        let read = entry.by_ref().take(actual.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| damaged(&name, error))?;
        if bytes.len() as u64 != actual {
            let found = format!("length: got {} bytes, expected {actual}", bytes.len());
            return Err(damaged(&name, std::io::Error::other(found)));
        }
        Ok(bytes)
    }
}

const TORCHSCRIPT: CheckpointError = CheckpointError::NotWeights {
    found: "a TorchScript program",
    advice: "save its weights in Python: torch.save(torch.jit.load(path, map_location=\"cpu\").state_dict(), \
             \"weights.pth\")",
};
const NUMPY: CheckpointError = CheckpointError::NotWeights {
    found: "a NumPy archive (.npz), as of the ViTs in JAX",
    advice: "load it in Python with timm, create_model(NAME, checkpoint_path=FILE), and save its state_dict() by \
             torch.save",
};

/// Whether an archive has checksums. With `torch.serialization.set_crc32_options(False)`, those of
/// all entries are 0.
fn has_checksums(zip: &mut ZipArchive<BufReader<File>>) -> Result<bool, CheckpointError> {
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(|error| damaged("the directory", error))?;
        if entry.crc32() != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses an archive whose directory claims more than [`MAX_ENTRIES`], before the zip reader
/// reserves memory for them. Only the zip64 extension can claim more than 65,535.
fn expect_few_entries(file: &mut File, length: u64) -> Result<(), CheckpointError> {
    const LOCATOR: [u8; 4] = *b"PK\x06\x07";
    const END: [u8; 4] = *b"PK\x06\x06";
    /// Length of the zip64 locator, the end record and the longest comment.
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
            let (what, limit) = ("number of entries".into(), MAX_ENTRIES);
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
