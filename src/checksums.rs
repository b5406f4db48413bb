//! Checksums of a folder's files: `checksums.sfv`, in the SFV format that many tools verify.

use crate::{Error, Result};
use crc32fast::Hasher;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Name of the file that has a line `NAME CRC-32` for each other file of its folder.
pub(crate) const CHECKSUMS: &str = "checksums.sfv";

/// Bytes read at a time for a checksum.
const CHUNK: usize = 1 << 16;
/// Longest list that is read, in bytes: far above that of any folder of this crate.
const LONGEST: u64 = 1 << 20;

/// CRC-32 of files, by name.
pub(crate) type Checksums = BTreeMap<String, u32>;

/// Writes the checksums of those of the named files that are in `folder`.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read, or the list cannot be written.
pub(crate) fn write(folder: &Path, files: &[&str]) -> Result<()> {
    let mut sums = Checksums::new();
    for name in files.iter().filter(|name| **name != CHECKSUMS) {
        let path = folder.join(name);
        if path.exists() {
            sums.insert((*name).into(), crc32(&path)?);
        }
    }
    crate::files::write(&folder.join(CHECKSUMS), in_words(&sums).as_bytes())
}

/// Checks the files of a folder against its list of checksums, which it returns. Files with names
/// neither in `needed` nor in `optional` are not read, and those in `added`, which a user may have put
/// there, only if they are in the list.
///
/// # Errors
/// [`Error::Io`] if the list or a needed file is missing or cannot be read; [`Error::File`] for a
/// list that [`write`] does not write, or without a file that is there; [`Error::Checksum`] for a
/// file with another checksum.
pub(crate) fn check(
    folder: &Path,
    needed: &[&str],
    optional: &[&str],
    added: &[&str],
) -> Result<Checksums> {
    let path = folder.join(CHECKSUMS);
    let sums = read(&path)?;
    let known = [needed, optional, added].concat();
    if let Some(name) = sums.keys().find(|name| !known.contains(&name.as_str())) {
        let expected = known.join(", ");
        let reason = format!("file in the list: got {name:?}, expected one of {expected}");
        return Err(Error::file(path, reason));
    }
    let listed = added.iter().copied().filter(|name| sums.contains_key(*name)).collect::<Vec<_>>();
    let optional = [optional, &listed].concat();
    for (name, needed) in pairs(needed, true).chain(pairs(&optional, false)) {
        let file = folder.join(name);
        match sums.get(name) {
            _ if !needed && !file.exists() => {}
            Some(&expected) => expect(&file, expected)?,
            None => {
                let reason = format!("checksum of {name}: got none, expected one");
                return Err(Error::file(path, reason));
            }
        }
    }
    Ok(sums)
}

fn pairs<'a>(names: &'a [&str], needed: bool) -> impl Iterator<Item = (&'a str, bool)> {
    names.iter().map(move |name| (*name, needed))
}

fn expect(path: &Path, expected: u32) -> Result<()> {
    match crc32(path)? {
        actual if actual == expected => Ok(()),
        actual => Err(Error::Checksum { path: path.into(), expected, actual }),
    }
}

fn read(path: &Path) -> Result<Checksums> {
    let io = |source| Error::io("read", path, source);
    let mut bytes = Vec::new();
    let file = crate::files::open(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => {
            let reason = "got no list of checksums, expected one; copy the folder again";
            io(std::io::Error::new(ErrorKind::NotFound, reason))
        }
        _ => io(source),
    })?;
    file.take(LONGEST).read_to_end(&mut bytes).map_err(io)?;
    let text = String::from_utf8_lossy(&bytes);
    let sum = |line: &str| {
        let (name, sum) = line.rsplit_once(' ')?;
        Some((name.to_string(), u32::from_str_radix(sum, 16).ok()?))
    };
    let sums: Option<Checksums> = text.lines().map(sum).collect();
    // Written again, so that not a single character may differ.
    sums.filter(|sums| in_words(sums) == text).ok_or_else(|| {
        let reason = "list of checksums: got other text, expected a line with name and CRC-32 of \
                      each file; copy the folder again";
        Error::file(path, reason)
    })
}

fn in_words(sums: &Checksums) -> String {
    sums.iter().map(|(name, sum)| format!("{name} {sum:08X}\n")).collect()
}

/// Returns the CRC-32 of a file, read in chunks.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read.
pub(crate) fn crc32(path: &Path) -> Result<u32> {
    let io = |source| Error::io("read", path, source);
    let mut file = crate::files::open(path).map_err(io)?;
    let (mut crc, mut chunk) = (Hasher::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk).map_err(io)? {
            0 => return Ok(crc.finalize()),
            length => crc.update(&chunk[..length]),
        }
    }
}
