//! What `torch.save` makes of rare tensors; `make_torch.py` wrote the files.

use super::archives::{entries, Archive};
use super::{data, refusal};
use crate::support::{numbers, tensor, TestResult};
use once_for_both::error::CheckpointError;
use once_for_both::import::{self, Weights};
use std::path::PathBuf;

fn torch(file: &str) -> PathBuf {
    data("torch").join(file)
}

fn values(weights: &Weights, name: &str) -> TestResult<Vec<f64>> {
    numbers(tensor(weights, name)?)
}

#[test]
fn read_of_views_attributes_and_types_returns_the_values_of_torch_load() -> TestResult {
    let weights = import::read(&torch("layouts.pth"))?;
    let transposed = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11].map(f64::from);
    assert_eq!(values(&weights, "transposed")?, transposed);
    for (name, expected) in [
        ("offset", &[7.0, 8.0][..]),
        ("every_third", &[0.0, 3.0, 6.0, 9.0]),
        ("column", &[2.0, 6.0, 10.0]),
        ("scalar", &[5.0]),
        ("empty", &[]),
        ("empty_of_storage", &[]),
        ("parameter", &[0.0, 1.0, 2.0]),
        ("noted", &[3.0, 4.0, 5.0]),
        ("buffer", &[0.0, 1.0]),
        ("double", &[0.0, 1.0, 2.0]),
        ("half", &[0.0, 1.0, 2.0]),
        ("brain", &[0.0, 1.0, 2.0]),
        ("bool", &[1.0, 0.0, 1.0]),
        ("int8", &[-1.0, 2.0]),
        ("int64", &[-1.0, 1_099_511_627_776.0]),
    ] {
        assert_eq!(values(&weights, name)?, expected, "{name}");
    }
    assert_eq!(weights.len(), 16);
    assert_eq!(tensor(&weights, "empty")?.size(), [0, 3]);
    assert_eq!(tensor(&weights, "scalar")?.size(), [0i64; 0]);
    Ok(())
}

#[test]
fn read_of_a_tensor_with_the_negative_bit_returns_negated_values() -> TestResult {
    let weights = import::read(&torch("negative_bit.pth"))?;
    assert_eq!(values(&weights, "negative")?, [1.0, -2.0]);
    assert_eq!(values(&weights, "plain")?, [-1.0, 2.0]);
    Ok(())
}

#[test]
fn read_of_an_archive_without_checksums_returns_the_tensors() -> TestResult {
    let weights = import::read(&torch("no_checksums.pth"))?;
    assert_eq!(values(&weights, "weight")?, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    Ok(())
}

/// One checksum that is missing among others is a damage.
#[test]
fn read_of_an_archive_with_one_checksum_of_zero_is_refused() -> TestResult {
    let mut bytes = std::fs::read(torch("negative_bit.pth"))?;
    let first = bytes.windows(4).position(|at| at == b"PK\x01\x02").ok_or("no directory")?;
    bytes[first + 16..first + 20].fill(0);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("checkpoint.pth");
    std::fs::write(&path, bytes)?;
    assert!(matches!(refusal(&path), CheckpointError::Archive { .. }));
    Ok(())
}

#[test]
fn read_of_an_unsupported_type_is_refused_by_tensor_and_type() {
    for (file, words) in [
        ("complex", "torch.ComplexFloatStorage"),
        ("conjugate_bit", "torch.ComplexFloatStorage"),
        ("float8", "torch.float8_e4m3fn"),
        ("uint16", "torch.uint16"),
        ("meta", "device meta"),
        ("sparse", "a sparse tensor"),
        ("quantised", "a quantised tensor"),
        ("nested", "a nested tensor"),
    ] {
        match refusal(&torch(&format!("unsupported_{file}.pth"))) {
            CheckpointError::Type { tensor, found } => {
                assert_eq!(tensor, "norm.bias", "{file}");
                assert!(found.contains(words), "{file}: {found}");
            }
            other => panic!("{file}: {other:?}"),
        }
    }
}

#[test]
fn read_of_a_tensor_of_a_class_of_its_own_is_refused_by_class() {
    match refusal(&torch("own_class.pth")) {
        CheckpointError::ForeignGlobal { entry, global } => {
            assert_eq!(entry, "norm.bias");
            assert!(global.ends_with("Doubled"), "{global}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn read_of_a_torchscript_program_is_refused_with_the_conversion() {
    let error = refusal(&torch("script.pt"));
    assert!(matches!(error, CheckpointError::NotWeights { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("torch.jit.load(path, map_location=\"cpu\").state_dict(), \"weights.pth\")"),
        "{error}"
    );
}

/// The bit of a tensor with unknown metadata could mean anything.
#[test]
fn read_of_a_tensor_with_unknown_metadata_is_refused() -> TestResult {
    let mut parts = entries(&torch("negative_bit.pth"))?;
    let at = parts.iter().position(|(name, _)| name == "data.pkl").ok_or("no pickle")?;
    let (_, mut pickle) = parts.remove(at);
    let text = pickle.windows(8).position(|at| at == b"X\x03\0\0\0neg").ok_or("no metadata")?;
    pickle[text + 5..text + 8].copy_from_slice(b"new");
    let others: Vec<_> = parts.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    let archive = Archive::new(&pickle, &others)?;
    assert!(matches!(refusal(&archive.path()), CheckpointError::Pickle { .. }));
    Ok(())
}
