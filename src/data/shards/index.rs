//! Index file: the positions of all samples, so that shards need not be scanned again.
//!
//! A safetensors file. Its tensor `members` is `[samples, 4]`, u32: block of the data, length, class,
//! blocks of the header. Its metadata `shards` is JSON: path, length, time of the last change and
//! number of samples of each shard, in the order of the samples; `crc32` is the checksum of `shards` and
//! `members`, because a changed bit could be another class.

use super::samples::{Member, MOST_CLASS};
use super::scan::{Scan, Stamp};
use super::scans::Scans;
use crate::{files, Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const FORMAT: &str = "once-for-both shard index 2";
/// Format whose shards were scanned without the check of classes with a dot in their name.
const UNCHECKED_FORMAT: &str = "once-for-both shard index 1";
/// Numbers of a sample.
const COLUMNS: usize = 4;

/// A shard in the metadata.
#[derive(Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    length: u64,
    modified: u64,
    samples: usize,
}

/// Reads an index; an empty one if there is no file, or one of the format before, so that all shards are scanned again.
///
/// # Errors
/// [`Error::File`] for a file that is no index, or a damaged one; [`Error::Io`] if it cannot be read.
pub(super) fn read(path: &Path) -> Result<Scans> {
    if !path.try_exists().map_err(|source| Error::io("read", path, source))? {
        return Ok(Scans::new());
    }
    let bytes = files::read(path).map_err(|source| Error::io("read", path, source))?;
    parse(&bytes).map_err(|found| {
        let expected = "the index of shards that this library writes";
        let advice = "remove it, or name another file";
        Error::file(path, format!("index of shards: got {found}, expected {expected}; {advice}"))
    })
}

fn parse(bytes: &[u8]) -> Result<Scans, String> {
    let words = |error: safetensors::SafeTensorError| error.to_string();
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(words)?;
    let fields = metadata.metadata().clone().unwrap_or_default();
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    match field("format") {
        FORMAT => {}
        UNCHECKED_FORMAT => return Ok(Scans::new()),
        other => return Err(format!("the format {other:?}")),
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(words)?;
    let members = tensors.tensor("members").map_err(words)?;
    let (stated, computed) = (field("crc32"), checksum(field("shards"), members.data()));
    if stated != computed {
        return Err(format!("the checksum {computed} in place of {stated:?}"));
    }
    let entries: Vec<Entry> =
        serde_json::from_str(field("shards")).map_err(|error| error.to_string())?;
    let samples = entries.iter().try_fold(0usize, |sum, entry| sum.checked_add(entry.samples));
    if members.dtype() != Dtype::U32
        || samples.map(|all| vec![all, COLUMNS]) != Some(members.shape().into())
    {
        return Err(format!("members of {:?} {:?}", members.dtype(), members.shape()));
    }
    let numbers = members.data().as_chunks::<4>().0.as_chunks::<COLUMNS>().0;
    let mut members = numbers.iter().map(|row| {
        let [block, length, class, header_blocks] = row.map(u32::from_le_bytes);
        Member { block, length, class, header_blocks }
    });
    let scan = |entry: Entry| {
        let Entry { path, length, modified, samples } = entry;
        let members: Vec<Member> = members.by_ref().take(samples).collect();
        let fits = |member: &Member| {
            let inside = member.end() <= length && member.header_blocks <= member.block;
            inside && member.class <= MOST_CLASS
        };
        match !members.is_empty() && members.iter().all(fits) {
            true => Ok((path, Scan { stamp: Stamp { length, modified }, members })),
            false => Err(format!("samples outside of {}", path.display())),
        }
    };
    entries.into_iter().map(scan).collect()
}

/// CRC-32 of both parts of an index, in hexadecimal.
fn checksum(shards: &str, members: &[u8]) -> String {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(shards.as_bytes());
    hasher.update(members);
    format!("{:08x}", hasher.finalize())
}

/// Writes an index atomically.
///
/// # Errors
/// [`Error::Io`] if it cannot be written.
pub(super) fn write(path: &Path, scans: &Scans) -> Result<()> {
    let entry = |(path, scan): (&PathBuf, &Scan)| {
        let Stamp { length, modified } = scan.stamp;
        Entry { path: path.clone(), length, modified, samples: scan.members.len() }
    };
    let entries: Vec<Entry> = scans.iter().map(entry).collect();
    let refused = |error: String| Error::file(path, format!("index of shards: {error}"));
    let shards = serde_json::to_string(&entries).map_err(|error| refused(error.to_string()))?;
    let members = scans.values().flat_map(|scan| &scan.members);
    let data: Vec<u8> = members
        .flat_map(|member| [member.block, member.length, member.class, member.header_blocks])
        .flat_map(u32::to_le_bytes)
        .collect();
    let crc32 = checksum(&shards, &data);
    let fields = [("format", FORMAT.to_owned()), ("shards", shards), ("crc32", crc32)];
    let fields = HashMap::from(fields.map(|(name, value)| (name.to_owned(), value)));
    let shape = vec![data.len() / (4 * COLUMNS), COLUMNS];
    let bytes = TensorView::new(Dtype::U32, shape, &data)
        .and_then(|view| safetensors::serialize([("members", view)], Some(fields)))
        .map_err(|error| refused(error.to_string()))?;
    files::write_atomically(path, &bytes)
}
