//! Files of other formats, damaged files, and files with code.

use super::archives::Archive;
use super::{data, load, refusal, tiny};
use crate::assert_refused;
use crate::support::TestResult;
use once_for_both::error::CheckpointError;
use once_for_both::import::{self, ImportOptions};
use once_for_both::Error;
use std::path::PathBuf;

/// A file with these bytes; dropping the first value removes it.
pub(super) fn file(bytes: &[u8]) -> TestResult<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("checkpoint.pth");
    std::fs::write(&path, bytes)?;
    Ok((folder, path))
}

#[test]
fn load_of_a_missing_file_is_refused() {
    assert_refused!(
        load(&data("nowhere.pth"), &tiny(), &ImportOptions::default()),
        Error::Io { path, .. } if path.ends_with("nowhere.pth")
    );
}

#[test]
fn read_of_a_folder_without_weights_is_refused() {
    assert!(matches!(refusal(&data("")), CheckpointError::NoWeights));
}

#[test]
fn read_of_another_format_is_refused_with_its_first_bytes() -> TestResult {
    for bytes in [&b"<!DOCTYPE html>"[..], b"\x89HDF\r\n\x1a\n", b"", b"{}", b"12345678{"] {
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
fn read_of_the_format_before_torch_1_6_is_refused_with_the_conversion() {
    let error = refusal(&data("legacy.pth"));
    assert!(matches!(error, CheckpointError::Legacy));
    assert!(error.to_string().contains("torch.save(torch.load("), "{error}");
}

#[test]
fn read_of_a_truncated_archive_is_refused() -> TestResult {
    let whole = std::fs::read(data("half_views.pth"))?;
    for length in [4, 5, 100, whole.len() / 2, whole.len() - 30, whole.len() - 1] {
        let (_folder, path) = file(&whole[..length])?;
        let error = refusal(&path);
        assert!(matches!(error, CheckpointError::Archive { .. }), "{length}: {error:?}");
    }
    Ok(())
}

#[test]
fn read_of_a_truncated_safetensors_file_is_refused() -> TestResult {
    let whole = std::fs::read(data("timm_plain.safetensors"))?;
    let (_folder, path) = file(&whole[..whole.len() - 1])?;
    assert!(matches!(refusal(&path), CheckpointError::Safetensors { .. }));
    Ok(())
}

/// Also where the first byte of the header's length is that of a pickle.
#[test]
fn read_of_a_safetensors_file_cut_inside_its_header_is_refused_as_cut() -> TestResult {
    for header in [0x5280_u64, 0x5288] {
        let mut bytes = [&header.to_le_bytes()[..], b"{\"weight\":"].concat();
        bytes.resize(10_000, b' ');
        let (_folder, path) = file(&bytes)?;
        match refusal(&path) {
            CheckpointError::Safetensors { source } => assert_eq!(
                source.to_string(),
                format!(
                    "header: got 9992 bytes, expected {header}; the file is cut, copy or download \
                     it again"
                )
            ),
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

#[test]
fn read_of_an_archive_with_a_flipped_bit_is_refused_by_checksum() -> TestResult {
    let mut bytes = std::fs::read(data("half_views.pth"))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let (_folder, path) = file(&bytes)?;
    assert!(matches!(refusal(&path), CheckpointError::Archive { .. }));
    Ok(())
}

#[test]
fn read_of_foreign_code_in_the_state_dict_is_refused_and_not_run() {
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
fn read_of_foreign_code_beside_the_state_dict_ignores_it() -> TestResult {
    let weights = import::read(&data("foreign_beside.pth"))?;
    assert_eq!(weights.keys().collect::<Vec<_>>(), ["norm.weight"]);
    let marker = "once-for-both-ran-foreign-code";
    assert!(!std::path::Path::new(marker).exists(), "the command of the file was run");
    Ok(())
}

#[test]
fn read_of_a_pickled_module_is_refused_by_class() {
    match refusal(&data("whole_module.pth")) {
        CheckpointError::ForeignGlobal { entry, global } => {
            assert_eq!((&*entry, &*global), ("model", "torch.nn.modules.normalization.LayerNorm"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn read_of_a_numpy_archive_is_refused_with_the_conversion() -> TestResult {
    let archive = Archive::new(b"", &[])?;
    let mut zip = zip::ZipWriter::new(std::fs::File::create(archive.path())?);
    zip.start_file("Transformer/encoder_norm/bias.npy", zip::write::SimpleFileOptions::default())?;
    zip.finish()?;
    let message = refusal(&archive.path()).to_string();
    assert!(message.contains("a NumPy archive (.npz)") && message.contains("timm"), "{message}");
    Ok(())
}
