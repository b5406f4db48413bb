use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::Compression;
use tempfile::TempDir;

use super::*;

pub(super) type TestResult = Result<(), Box<dyn Error>>;

pub(super) fn idx(element: u8, sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, element, sizes.len() as u8];
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(bytes).expect("a Vec takes all");
    packer.finish().expect("a Vec takes all")
}

pub(super) fn put(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("the temporary folder can be written");
    path
}

/// Reads bytes as a file. An error must name the file and must not repeat its source.
fn read(bytes: &[u8]) -> Result<IdxArray, IdxError> {
    let folder = TempDir::new().expect("a temporary folder");
    let path = put(&folder, "some-file", bytes);
    read_idx(&path).inspect_err(|error| check_message(error, &path))
}

pub(super) fn check_message(error: &IdxError, path: &Path) {
    let message = error.to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
    if let Some(cause) = error.source() {
        assert!(!message.contains(&cause.to_string()), "{message}");
    }
}

#[test]
fn read_idx_of_gzip_file_equals_that_of_plain_file() -> TestResult {
    let values: Vec<u8> = (0..24).map(|at| at * 10).collect();
    let plain = idx(0x08, &[2, 3, 4], &values);
    let expected = IdxArray { shape: vec![2, 3, 4], values };
    assert_eq!(read(&plain)?, expected);
    assert_eq!(read(&pack(&plain))?, expected);
    Ok(())
}

#[test]
fn read_idx_of_several_gzip_members_concatenates_them() -> TestResult {
    let plain = idx(0x08, &[6], &[1, 2, 3, 4, 5, 6]);
    let (first, second) = plain.split_at(10);
    let packed = [pack(first), pack(second)].concat();
    assert_eq!(read(&packed)?.values, [1, 2, 3, 4, 5, 6]);
    Ok(())
}

#[test]
fn read_idx_sizes_are_big_endian() -> TestResult {
    let array = read(&idx(0x08, &[0x0001_0203], &vec![7; 0x0001_0203]))?;
    assert_eq!(array.shape, [0x0001_0203]);
    Ok(())
}

#[test]
fn read_idx_of_highly_compressed_zeros_succeeds() -> TestResult {
    let size = 5_000_000;
    let packed = pack(&idx(0x08, &[size], &vec![0; size as usize]));
    assert_eq!(read(&packed)?.values.len(), size as usize);
    Ok(())
}

#[test]
fn read_idx_of_missing_file_is_an_open_error() {
    let path = Path::new("/nowhere/at/all");
    let error = read_idx(path).expect_err("no such file");
    assert!(matches!(error, IdxError::Open { .. }), "{error:?}");
    check_message(&error, path);
}

#[cfg(unix)]
#[test]
fn read_idx_of_folder_is_a_read_error() -> TestResult {
    let folder = TempDir::new()?;
    let error = read_idx(folder.path()).expect_err("a folder has no bytes");
    assert!(matches!(error, IdxError::Read { .. }), "{error:?}");
    check_message(&error, folder.path());
    Ok(())
}

#[test]
fn read_idx_of_other_formats_is_a_not_idx_error() {
    let safetensors = [0x50, 0, 0, 0, 0, 0, 0, 0, b'{'];
    for foreign in
        [b"\x89PNG\r\n\x1a\n".as_slice(), &safetensors, b"", b"\0\0\x08", b"\0\0\x07\x01"]
    {
        for bytes in [foreign.to_vec(), pack(foreign)] {
            match read(&bytes) {
                Err(IdxError::NotIdx { found, .. }) => {
                    assert_eq!(found, foreign[..foreign.len().min(4)]);
                }
                other => panic!("{foreign:02x?}: {other:?}"),
            }
        }
    }
}

#[test]
fn read_idx_of_other_element_types_is_an_error() {
    for code in [0x09, 0x0b, 0x0c, 0x0d, 0x0e] {
        let error = read(&idx(code, &[1], &[0; 8])).expect_err("not unsigned bytes");
        assert!(
            matches!(error, IdxError::ElementType { expected: 0x08, found, .. } if found == code),
            "{error:?}"
        );
    }
    let error = read(&idx(0x0d, &[1], &[0; 4])).expect_err("not unsigned bytes");
    let message = error.to_string();
    assert!(message.contains("expected 0x08 (unsigned byte)"), "{message}");
    assert!(message.contains("got 0x0d (32-bit float)"), "{message}");
}

#[test]
fn read_idx_of_truncated_plain_file_is_an_error_at_every_length() {
    let plain = idx(0x08, &[2, 3], &[1, 2, 3, 4, 5, 6]);
    for length in 0..plain.len() {
        let error = read(&plain[..length]).expect_err("truncated");
        let right = match error {
            IdxError::NotIdx { .. } => length < 4,
            IdxError::TruncatedHeader { expected: 8, found, .. } => found + 4 == length,
            IdxError::Truncated { expected: 6, found, .. } => found + 12 == length as u64,
            _ => false,
        };
        assert!(right, "{length} bytes: {error:?}");
        let error = read(&pack(&plain[..length])).expect_err("truncated before compression");
        assert!(!matches!(error, IdxError::Gzip { .. }), "{error:?}");
    }
}

#[test]
fn read_idx_of_truncated_gzip_file_is_an_error_at_every_length() {
    let packed = pack(&idx(0x08, &[2, 3], &[1, 2, 3, 4, 5, 6]));
    for length in 2..packed.len() {
        let error = read(&packed[..length]).expect_err("truncated");
        assert!(matches!(error, IdxError::Gzip { .. }), "{length} bytes: {error:?}");
    }
}

#[test]
fn read_idx_of_gzip_file_with_a_flipped_bit_is_an_error_or_the_same_values() {
    let values: Vec<u8> = (0..200).map(|at| at % 7).collect();
    let plain = idx(0x08, &[200], &values);
    let packed = pack(&plain);
    for bit in 0..packed.len() * 8 {
        let mut damaged = packed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(array) = read(&damaged) {
            assert_eq!(array.values, values, "bit {bit}");
        }
    }
}

#[test]
fn read_idx_with_trailing_bytes_is_an_error() {
    let plain = idx(0x08, &[3], &[1, 2, 3, 0]);
    for bytes in [pack(&plain), plain] {
        let error = read(&bytes).expect_err("one value too many");
        assert!(matches!(error, IdxError::TrailingBytes { expected: 3, .. }), "{error:?}");
    }
    let packed = [pack(&idx(0x08, &[1], &[1])), b"rest".to_vec()].concat();
    let error = read(&packed).expect_err("bytes after the gzip stream");
    assert!(matches!(error, IdxError::Gzip { .. }), "{error:?}");
}

#[test]
fn read_idx_with_impossible_shape_is_an_error() {
    let overflow = idx(0x08, &[u32::MAX; 3], &[0; 100]);
    let too_large = pack(&idx(0x08, &[u32::MAX, 60_000], &[0; 100]));
    for bytes in [&overflow, &pack(&overflow), &too_large] {
        let error = read(bytes).expect_err("more values than the file can hold");
        assert!(matches!(error, IdxError::ImpossibleShape { .. }), "{error:?}");
    }
}

/// Reading the values would take as long as the file is: here a terabyte of zeros.
#[test]
fn read_idx_of_plain_file_of_another_length_is_an_error_before_its_values_are_read() -> TestResult {
    let folder = TempDir::new()?;
    for (claim, length) in [(1_u32, 1_u64 << 40), (u32::MAX, 1000)] {
        let path = put(&folder, "some-file", &idx(0x08, &[claim, 1000], &[]));
        fs::OpenOptions::new().write(true).open(&path)?.set_len(length)?;
        let error = read_idx(&path).expect_err("another length");
        let expected = u64::from(claim) * 1000;
        match error {
            IdxError::TrailingBytes { expected: claimed, .. } => assert_eq!(claimed, expected),
            IdxError::Truncated { expected: claimed, found, .. } => {
                assert_eq!((claimed, found), (expected, length - 12));
            }
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

#[test]
fn idx_error_is_send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    check::<IdxError>();
}
