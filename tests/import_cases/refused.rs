//! Files of other formats, damaged ones, and those that carry code.

use super::{data, load, refusal, tiny};
use crate::assert_refused;
use crate::support::TestResult;
use once_for_both::error::CheckpointError;
use once_for_both::import::{self, ImportOptions};
use once_for_both::Error;
use std::path::PathBuf;

/// A file with these bytes; its folder goes with the first part.
fn file(bytes: &[u8]) -> TestResult<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("checkpoint.pth");
    std::fs::write(&path, bytes)?;
    Ok((folder, path))
}

#[test]
fn a_file_that_is_not_there() {
    assert_refused!(
        load(&data("nowhere.pth"), &tiny(), &ImportOptions::default()),
        Error::Io { path, .. } if path.ends_with("nowhere.pth")
    );
}

#[test]
fn a_folder() {
    assert!(matches!(refusal(&data("")), CheckpointError::Io(_)));
}

#[test]
fn a_text_file() -> TestResult {
    for bytes in [&b"version https://git-lfs.github.com/spec/v1\n"[..], b"", b"{}", b"12345678{"] {
        let (_folder, path) = file(bytes)?;
        let head = bytes[..bytes.len().min(8)].to_vec();
        match refusal(&path) {
            CheckpointError::Unrecognised { found } => assert_eq!(found, head),
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn the_format_before_zip() {
    let error = refusal(&data("legacy.pth"));
    assert!(matches!(error, CheckpointError::Legacy));
    assert!(error.to_string().contains("torch.save(torch.load("), "{error}");
}

#[test]
fn a_truncated_archive() -> TestResult {
    let whole = std::fs::read(data("half_views.pth"))?;
    for length in [4, 5, 100, whole.len() / 2, whole.len() - 30, whole.len() - 1] {
        let (_folder, path) = file(&whole[..length])?;
        let error = refusal(&path);
        assert!(matches!(error, CheckpointError::Archive { .. }), "{length}: {error:?}");
    }
    Ok(())
}

#[test]
fn a_truncated_safetensors_file() -> TestResult {
    let whole = std::fs::read(data("timm_plain.safetensors"))?;
    let (_folder, path) = file(&whole[..whole.len() - 1])?;
    assert!(matches!(refusal(&path), CheckpointError::Safetensors { .. }));
    Ok(())
}

/// A flipped bit of a weight is seen by the checksum.
#[test]
fn a_damaged_archive() -> TestResult {
    let mut bytes = std::fs::read(data("half_views.pth"))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let (_folder, path) = file(&bytes)?;
    assert!(matches!(refusal(&path), CheckpointError::Archive { .. }));
    Ok(())
}

#[test]
fn foreign_code_in_the_state_dict() {
    match refusal(&data("foreign_inside.pth")) {
        CheckpointError::ForeignGlobal { entry, global } => {
            assert_eq!((&*entry, &*global), ("norm.bias", "posix.system"));
        }
        other => panic!("{other:?}"),
    }
    let marker = "once-for-both-ran-foreign-code";
    assert!(!std::path::Path::new(marker).exists(), "the command of the file was run");
}

#[test]
fn foreign_code_beside_the_state_dict_is_inert() -> TestResult {
    let weights = import::read(&data("foreign_beside.pth"))?;
    assert_eq!(weights.keys().collect::<Vec<_>>(), ["norm.weight"]);
    let marker = "once-for-both-ran-foreign-code";
    assert!(!std::path::Path::new(marker).exists(), "the command of the file was run");
    Ok(())
}

#[test]
fn a_module_pickled_as_a_whole() {
    match refusal(&data("whole_module.pth")) {
        CheckpointError::ForeignGlobal { entry, global } => {
            assert_eq!((&*entry, &*global), ("model", "torch.nn.modules.normalization.LayerNorm"));
        }
        other => panic!("{other:?}"),
    }
}
