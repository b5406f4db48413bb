//! Torch archives with arbitrary content.

use crate::support::TestResult;
use std::io::Write;
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::CompressionMethod;

/// A torch archive in a temporary folder.
pub(super) struct Archive {
    folder: tempfile::TempDir,
}

impl Archive {
    /// Writes an archive with this pickle and these other entries.
    pub(super) fn new(pickle: &[u8], entries: &[(&str, &[u8])]) -> TestResult<Self> {
        Self::with_method(CompressionMethod::Stored, pickle, entries)
    }

    pub(super) fn deflated(pickle: &[u8], entries: &[(&str, &[u8])]) -> TestResult<Self> {
        Self::with_method(CompressionMethod::Deflated, pickle, entries)
    }

    fn with_method(
        method: CompressionMethod,
        pickle: &[u8],
        entries: &[(&str, &[u8])],
    ) -> TestResult<Self> {
        let archive = Self { folder: tempfile::tempdir()? };
        let mut zip = zip::ZipWriter::new(std::fs::File::create(archive.path())?);
        let options = SimpleFileOptions::default().compression_method(method);
        for (name, bytes) in [("data.pkl", pickle)].iter().chain(entries) {
            zip.start_file(format!("archive/{name}"), options)?;
            zip.write_all(bytes)?;
        }
        zip.finish()?;
        Ok(archive)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("checkpoint.pth")
    }
}

/// All entries of an archive, their names without the folder.
pub(super) fn entries(path: &Path) -> TestResult<Vec<(String, Vec<u8>)>> {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(path)?)?;
    let mut entries = Vec::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index)?;
        let name = entry.name().split_once('/').map_or("", |(_, name)| name).to_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes)?;
        entries.push((name, bytes));
    }
    Ok(entries)
}

/// Description of a tensor in a pickle; the valid one is of 2 × 3 floats in storage "0".
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) class: &'static str,
    pub(super) elements: i64,
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) strides: Vec<i64>,
}

impl Claim {
    pub(super) fn valid() -> Self {
        let (shape, strides) = (vec![2, 3], vec![3, 1]);
        Self { class: "torch\nFloatStorage", elements: 6, offset: 0, shape, strides }
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict())`.
    pub(super) fn pickled(&self) -> Vec<u8> {
        let class = format!("c{}\n", self.class);
        let id =
            [&text("storage")[..], class.as_bytes(), &text("0"), &text("cpu"), &int(self.elements)];
        let arguments = [
            &tuple(&id)[..],
            b"Q",
            &int(self.offset),
            &ints(&self.shape),
            &ints(&self.strides),
            b"\x89ccollections\nOrderedDict\n)R",
        ];
        [b"ctorch._utils\n_rebuild_tensor_v2\n", &tuple(&arguments)[..], b"R"].concat()
    }
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(value: i64) -> Vec<u8> {
    [b"\x8a\x08", &value.to_le_bytes()[..]].concat()
}

fn ints(values: &[i64]) -> Vec<u8> {
    let values: Vec<_> = values.iter().map(|&value| int(value)).collect();
    tuple(&values.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn tuple(parts: &[&[u8]]) -> Vec<u8> {
    [b"(", &parts.concat()[..], b"t"].concat()
}

/// A pickle of `{"weight": VALUE}`.
pub(super) fn state_dict(value: &[u8]) -> Vec<u8> {
    pickle(&dict(&[("weight", value)]))
}

/// A dict with these pickled values.
pub(super) fn dict(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let items = entries.iter().flat_map(|(key, value)| [&text(key)[..], value, b"s"].concat());
    [b"}".to_vec(), items.collect()].concat()
}

/// A whole pickle of this value.
pub(super) fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}
