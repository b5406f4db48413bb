//! Checkpoints with random changes: each is read, or refused with a typed error, in bounded memory.

use super::{data, HEADS};
use crate::support::alone::{measured, run_alone};
use crate::support::mutation::{cases, mutated, run_bounded};
use crate::support::TestResult;
use once_for_both::import::{self, ImportOptions};
use once_for_both::Error;
use std::path::Path;

/// Growth of the process's memory, in MB, that files of at most 120 KB justify, with libtorch's own.
const MEGABYTES: f64 = 256.0;

#[test]
fn torch_archives_with_any_bytes_changed_are_read_or_refused_in_bounded_memory() -> TestResult {
    let run = run_alone("import_cases::mutations::changed_torch_archives", &[])?;
    assert!(run.megabytes <= MEGABYTES, "{} MB", run.megabytes);
    Ok(())
}

#[test]
#[ignore = "part of torch_archives_with_any_bytes_changed_are_read_or_refused_in_bounded_memory"]
fn changed_torch_archives() -> TestResult {
    check(files(&["pth", "pt"])?.into_iter().map(without_checksums).collect())
}

#[test]
fn safetensors_files_with_any_bytes_changed_are_read_or_refused_in_bounded_memory() -> TestResult {
    let run = run_alone("import_cases::mutations::changed_safetensors_files", &[])?;
    assert!(run.megabytes <= MEGABYTES, "{} MB", run.megabytes);
    Ok(())
}

#[test]
#[ignore = "part of safetensors_files_with_any_bytes_changed_are_read_or_refused_in_bounded_memory"]
fn changed_safetensors_files() -> TestResult {
    check(files(&["safetensors"])?)
}

/// The bytes of all files of `tests/data/import` with one of these extensions.
fn files(extensions: &[&str]) -> TestResult<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for folder in [data(""), data("torch")] {
        for entry in std::fs::read_dir(folder)? {
            paths.push(entry?.path());
        }
    }
    paths.retain(|path| {
        path.extension().is_some_and(|own| extensions.iter().any(|wanted| *wanted == own))
    });
    paths.sort();
    paths.iter().map(|path| Ok(std::fs::read(path)?)).collect()
}

/// Sets all checksums of a zip archive to 0, which stands for none: otherwise they show nearly every
/// change, and nothing else is tested.
fn without_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    for at in 0..bytes.len().saturating_sub(20) {
        let field = match &bytes[at..at + 4] {
            b"PK\x01\x02" => at + 16,
            b"PK\x03\x04" => at + 14,
            _ => continue,
        };
        bytes[field..field + 4].fill(0);
    }
    bytes
}

fn check(originals: Vec<Vec<u8>>) -> TestResult {
    assert!(!originals.is_empty());
    let (folder, cases) = (tempfile::tempdir()?, cases()?);
    let path = folder.path().join("checkpoint");
    measured(|| {
        run_bounded(cases, move |case| {
            let original = &originals[case as usize % originals.len()];
            std::fs::write(&path, mutated(original, case)).expect("a file can be written");
            read(&path, case);
        })
    })
}

/// Reads and inspects a file; panics unless it is read or refused by name.
fn read(path: &Path, case: u64) {
    let options = ImportOptions::default();
    if let Err(error) = import::open(path, &options) {
        assert!(matches!(error, Error::Checkpoint { .. }), "{error:?}");
        return;
    }
    // Building the network takes longer than all else.
    if !case.is_multiple_of(4) {
        return;
    }
    if let Err(error) = import::inspect_file(path, &options, Some(HEADS)) {
        let is_typed =
            matches!(error, Error::Import(_) | Error::Shape { .. } | Error::Invalid { .. });
        assert!(is_typed, "{error:?}");
    }
}
