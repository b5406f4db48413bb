//! Pickles that `torch.save` does not write: each is refused before memory is reserved for it.

use super::archives::{dict, entries, pickle, state_dict, text, Archive, Claim};
use super::{data, refusal};
use crate::support::{in_words, numbers, tensor, TestResult};
use once_for_both::error::CheckpointError;
use once_for_both::import;
use proptest::prelude::*;

/// The floats 0, 1, …, 5.
fn storage() -> Vec<u8> {
    (0..6).flat_map(|number| (number as f32).to_le_bytes()).collect()
}

/// The error of reading a tensor of this description.
#[track_caller]
fn description_refusal(claim: &Claim) -> CheckpointError {
    pickle_refusal(&state_dict(&claim.pickled()))
}

/// The error of reading an archive with this pickle and a valid storage.
#[track_caller]
fn pickle_refusal(pickle: &[u8]) -> CheckpointError {
    match Archive::new(pickle, &[("data/0", &storage()), ("byteorder", b"little")]) {
        Ok(archive) => refusal(&archive.path()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn read_of_a_valid_archive_stored_or_deflated_returns_the_tensor() -> TestResult {
    let valid = storage();
    let entries = [("data/0", &valid[..])];
    let pickle = state_dict(&Claim { strides: vec![1, 2], ..Claim::valid() }.pickled());
    for archive in [Archive::new(&pickle, &entries)?, Archive::deflated(&pickle, &entries)?] {
        let weights = import::read(&archive.path())?;
        let expected = [0.0, 2.0, 4.0, 1.0, 3.0, 5.0];
        assert_eq!(numbers(tensor(&weights, "weight")?)?, expected);
    }
    Ok(())
}

#[test]
fn read_of_a_storage_shorter_than_described_is_refused() {
    let claim = Claim { elements: 7, ..Claim::valid() };
    match description_refusal(&claim) {
        CheckpointError::Storage { tensor, storage, needed: 7, actual: 6 } => {
            assert_eq!((&*tensor, &*storage), ("weight", "0"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn read_of_a_tensor_beyond_its_storage_is_refused() {
    for claim in [
        Claim { offset: 1, ..Claim::valid() },
        Claim { strides: vec![4, 1], ..Claim::valid() },
        Claim { class: "torch\nDoubleStorage", elements: 3, ..Claim::valid() },
    ] {
        let error = description_refusal(&claim);
        assert!(matches!(error, CheckpointError::Storage { .. }), "{claim:?}: {error:?}");
    }
}

#[test]
fn read_of_a_tensor_described_as_terabytes_is_refused() {
    let (size, huge) = (1 << 20, 1 << 40);
    let claim =
        Claim { elements: huge, shape: vec![size, size], strides: vec![size, 1], ..Claim::valid() };
    let error = description_refusal(&claim);
    assert!(matches!(error, CheckpointError::Storage { actual: 6, .. }), "{error:?}");
    // With strides of 0 the storage is long enough, but a copy would not fit.
    let claim = Claim { elements: 6, strides: vec![0, 0], ..claim };
    let error = description_refusal(&claim);
    assert!(matches!(error, CheckpointError::Layout { .. }), "{error:?}");
}

/// `t[:1].expand(5, 3)` of a tensor of 6 elements.
#[test]
fn read_of_an_expanded_tensor_returns_its_elements() -> TestResult {
    let claim = Claim { shape: vec![5, 3], strides: vec![0, 1], ..Claim::valid() };
    let pickle = state_dict(&claim.pickled());
    let archive = Archive::new(&pickle, &[("data/0", &storage())])?;
    let weights = import::read(&archive.path())?;
    assert_eq!(numbers(tensor(&weights, "weight")?)?, [0.0, 1.0, 2.0].repeat(5));
    Ok(())
}

#[test]
fn read_of_a_tensor_with_invalid_layout_is_refused() {
    let valid = Claim::valid;
    for claim in [
        Claim { offset: -1, ..valid() },
        Claim { shape: vec![2, -3], ..valid() },
        Claim { strides: vec![-3, 1], ..valid() },
        Claim { strides: vec![1], ..valid() },
        Claim { shape: vec![i64::MAX, i64::MAX], ..valid() },
        Claim { strides: vec![i64::MAX, i64::MAX], ..valid() },
        Claim { offset: i64::MAX, ..valid() },
    ] {
        let error = description_refusal(&claim);
        assert!(
            matches!(error, CheckpointError::Layout { .. } | CheckpointError::Storage { .. }),
            "{claim:?}: {error:?}"
        );
    }
    for claim in [
        Claim { elements: -1, ..valid() },
        Claim { shape: vec![1; 65], strides: vec![1; 65], ..valid() },
    ] {
        let error = description_refusal(&claim);
        assert!(matches!(error, CheckpointError::Pickle { .. }), "{claim:?}: {error:?}");
    }
}

#[test]
fn read_of_a_quantised_storage_is_refused_by_type() {
    let claim = Claim { class: "torch\nQUInt8Storage", ..Claim::valid() };
    match description_refusal(&claim) {
        CheckpointError::Type { tensor, found } => {
            assert_eq!((&*tensor, &*found), ("weight", "torch.QUInt8Storage"));
        }
        other => panic!("{other:?}"),
    }
}

/// `os.system`, called or only named, by every opcode that can do so.
#[test]
fn read_of_foreign_code_by_any_opcode_is_refused_by_name() {
    let by_stack = [&text("os")[..], &text("system"), b"\x93", &text("true"), b"\x85R"].concat();
    for value in [
        b"cos\nsystem\n(X\x04\x00\x00\x00truetR".as_slice(),
        b"cos\nsystem\n)\x81",
        b"cos\nsystem\n)}\x92",
        b"cos\nsystem\n)R}b",
        b"cos\nsystem\n",
        &by_stack,
    ] {
        match pickle_refusal(&state_dict(value)) {
            CheckpointError::ForeignGlobal { entry, global } => {
                assert_eq!((&*entry, &*global), ("weight", "os.system"));
            }
            other => panic!("{value:?}: {other:?}"),
        }
    }
}

#[test]
fn read_of_an_opcode_that_torch_does_not_write_is_refused() {
    // INST, OBJ, EXT1, PERSID, INT, and a byte that is no opcode.
    for opcode in [b'i', b'o', 0x82, b'P', b'I', 0xff] {
        match pickle_refusal(&[0x80, 2, opcode, b'.']) {
            CheckpointError::Opcode { opcode: refused, offset: 2 } => assert_eq!(refused, opcode),
            other => panic!("{opcode}: {other:?}"),
        }
    }
}

#[test]
fn read_of_a_malformed_pickle_is_refused() {
    for pickle in [
        b"".as_slice(),
        b"\x80",
        b"\x80\x06}.",
        b"\x80\x02.",
        b"\x80\x02}(\x85.",
        b"\x80\x02t.",
        b"\x80\x02h\x00.",
        b"\x80\x02}(Nu.",
        b"\x80\x02X\xff\xff\xff\xffab.",
        b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02NNR.",
        b"\x80\x02NQ.",
        b"\x80\x02cos",
        b"\x80\x02NN\x93.",
    ] {
        let error = pickle_refusal(pickle);
        assert!(matches!(error, CheckpointError::Pickle { .. }), "{pickle:?}: {error:?}");
    }
}

/// A million nested tuples do not exhaust the call stack.
#[test]
fn read_of_deeply_nested_tuples_is_refused() {
    let pickle = [b"\x80\x02)", vec![0x85; 1 << 20].as_slice(), b"."].concat();
    let error = pickle_refusal(&pickle);
    assert!(matches!(error, CheckpointError::Entry { .. }), "{error:?}");
}

#[test]
fn read_of_a_pickle_without_a_state_dict_of_tensors_is_refused() {
    let tensor = Claim::valid().pickled();
    let beside = |value: &[u8]| pickle(&dict(&[("other", &tensor[..]), ("weight", value)]));
    let no_text = [b"\x80\x02}K\x01", &tensor[..], b"s."].concat();
    let no_utf_8 = [b"\x80\x02}X\x01\x00\x00\x00\xff", &tensor[..], b"s."].concat();
    for (pickle, culprit) in [
        (b"\x80\x02K\x01.".to_vec(), "the checkpoint"),
        (no_text, "a key of the state dict"),
        (no_utf_8, "a key of the state dict"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.".to_vec(), "the checkpoint"),
        (beside(b"K\x01"), "weight"),
        (beside(b"N"), "weight"),
        (beside(b"}"), "weight"),
    ] {
        match pickle_refusal(&pickle) {
            CheckpointError::Entry { entry, .. } => assert_eq!(entry, culprit),
            other => panic!("{pickle:?}: {other:?}"),
        }
    }
    for value in [b"K\x01".as_slice(), b"N", b"}"] {
        match pickle_refusal(&state_dict(value)) {
            CheckpointError::StateDictMissing { found, .. } => assert_eq!(found, ["weight"]),
            other => panic!("{value:?}: {other:?}"),
        }
    }
}

#[test]
fn read_of_an_archive_without_storage_or_pickle_is_refused() -> TestResult {
    let archive = Archive::new(&state_dict(&Claim::valid().pickled()), &[])?;
    match refusal(&archive.path()) {
        CheckpointError::EntryMissing { entry } => assert_eq!(entry, "archive/data/0"),
        other => panic!("{other:?}"),
    }
    let mut zip = zip::ZipWriter::new(std::fs::File::create(archive.path())?);
    zip.start_file("readme.txt", zip::write::SimpleFileOptions::default())?;
    zip.finish()?;
    match refusal(&archive.path()) {
        CheckpointError::EntryMissing { entry } => assert_eq!(entry, "data.pkl"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[test]
fn read_of_a_big_endian_archive_is_refused() -> TestResult {
    let pickle = state_dict(&Claim::valid().pickled());
    let archive = Archive::new(&pickle, &[("data/0", &storage()), ("byteorder", b"big")])?;
    match refusal(&archive.path()) {
        CheckpointError::ByteOrder { found } => assert_eq!(found, "big"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// The zip reader reserves memory for all entries that the directory claims, and every tensor of a
/// pickle copies its shape.
#[test]
fn read_of_more_entries_or_tensors_than_the_limit_is_refused() -> TestResult {
    let archive = Archive::new(&state_dict(&Claim::valid().pickled()), &[("data/0", &[0; 24])])?;
    let mut bytes = std::fs::read(archive.path())?;
    let directory_end = bytes.len() - 22;
    let mut large = [&b"PK\x06\x06"[..], &44u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8]].concat();
    let claimed = 1_000_000_000u64.to_le_bytes();
    large.extend([&claimed[..], &claimed, &[0; 16]].concat());
    let locator =
        [&b"PK\x06\x07"[..], &[0; 4], &(directory_end as u64).to_le_bytes(), &[1, 0, 0, 0]]
            .concat();
    bytes.splice(directory_end..directory_end, [large, locator].concat());
    std::fs::write(archive.path(), &bytes)?;
    match refusal(&archive.path()) {
        CheckpointError::TooMany { actual, .. } => assert_eq!(actual, 1_000_000_000),
        other => panic!("{other:?}"),
    }
    // The same tensor many times, by a memoised function and memoised arguments.
    let valid = Claim::valid().pickled();
    let (callable, arguments) =
        valid[..valid.len() - 1].split_at(b"ctorch._utils\n_rebuild_tensor_v2\n".len());
    let mut pickle = [&b"\x80\x02("[..], callable, b"q\x01", arguments, b"q\x02R"].concat();
    (0..200_000).for_each(|_| pickle.extend(b"h\x01h\x02R"));
    pickle.extend(b"l.");
    match refusal(&Archive::new(&pickle, &[("data/0", &[0; 24])])?.path()) {
        CheckpointError::TooMany { limit, actual, .. } => assert_eq!(actual, limit + 1),
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// Zeros deflate by a factor of 1,000; weights do not.
#[test]
fn read_of_entries_that_unpack_to_far_more_than_the_file_is_refused() -> TestResult {
    let claim = Claim { elements: 1 << 22, ..Claim::valid() };
    let zeros = vec![0; 4 << 22];
    let archive = Archive::deflated(&state_dict(&claim.pickled()), &[("data/0", &zeros)])?;
    let error = refusal(&archive.path());
    assert!(matches!(error, CheckpointError::TooLarge { actual: 0x100_0000, .. }), "{error:?}");
    let archive = Archive::new(&vec![b'N'; (8 << 20) + 1], &[])?;
    let error = refusal(&archive.path());
    assert!(matches!(error, CheckpointError::TooLarge { limit: 0x80_0000, .. }), "{error:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn pickle_with_any_bytes_changed_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        file in prop::sample::select(vec!["half_views.pth", "bfloat16_parameters.pth"]),
    ) {
        in_words(read_changed(file, &changes))?;
    }
}

fn read_changed(file: &str, changes: &[(prop::sample::Index, u8)]) -> TestResult {
    let (pickles, others): (Vec<_>, Vec<_>) =
        entries(&data(file))?.into_iter().partition(|(name, _)| name == "data.pkl");
    let mut pickle: Vec<u8> = pickles.into_iter().flat_map(|(_, bytes)| bytes).collect();
    for (index, byte) in changes {
        let at = index.index(pickle.len());
        pickle[at] = *byte;
    }
    let others: Vec<_> = others.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    let archive = Archive::new(&pickle, &others)?;
    match import::read(&archive.path()) {
        Ok(_) | Err(once_for_both::Error::Checkpoint { .. }) => Ok(()),
        Err(other) => Err(other.into()),
    }
}
