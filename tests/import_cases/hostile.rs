//! Small pickles that refer to one value very often: each is refused in linear time.

use super::archives::{dict, pickle, state_dict, text, Archive, Claim};
use super::refusal;
use crate::support::TestResult;
use once_for_both::error::CheckpointError;
use std::time::{Duration, Instant};

const MANY: usize = 200_000;
/// Less than a second on an idle machine; in quadratic time, minutes.
const LIMIT: Duration = Duration::from_secs(15);

/// The error of reading a pickle, which is there within [`LIMIT`].
fn refusal_in_time(pickle: &[u8]) -> TestResult<CheckpointError> {
    let archive = Archive::new(pickle, &[("data/0", &[0; 24])])?;
    let start = Instant::now();
    let error = refusal(&archive.path());
    let elapsed = start.elapsed();
    assert!(elapsed < LIMIT, "{elapsed:?}");
    Ok(error)
}

/// A dict of [`MANY`] keys that are all this value.
fn keys_onto(value: &[u8]) -> Vec<u8> {
    let mut bytes = [b"\x80\x02", value, b"q\x010}"].concat();
    for key in 0..MANY {
        bytes.extend(text(&key.to_string()));
        bytes.extend(b"h\x01s");
    }
    bytes.push(b'.');
    bytes
}

#[test]
fn read_of_very_many_keys_onto_one_dict_is_refused_in_linear_time() -> TestResult {
    let with_tensor = dict(&[("weight", &Claim::valid().pickled()), ("step", b"K\x01")]);
    let mut without = b"K\x01q\x02}".to_vec();
    (0..MANY).for_each(|_| without.extend(b"h\x02h\x02s"));
    for value in [with_tensor, without] {
        let error = refusal_in_time(&keys_onto(&value))?;
        assert!(matches!(error, CheckpointError::StateDictMissing { .. }), "{error:?}");
    }
    Ok(())
}

/// A key of a megabyte would be copied into the path of each dict below it.
#[test]
fn read_of_dicts_below_a_very_long_key_is_refused_without_copies_of_the_key() -> TestResult {
    let long = "k".repeat(1 << 20);
    let mut inner = dict(&[("weight", &Claim::valid().pickled()), ("step", b"K\x01")]);
    inner.extend(b"q\x010}");
    for key in 0..MANY {
        inner.extend(text(&key.to_string()));
        inner.extend(b"h\x01s");
    }
    let error = refusal_in_time(&pickle(&[b"}", &text(&long)[..], &inner, b"s"].concat()))?;
    assert!(matches!(error, CheckpointError::StateDictMissing { .. }), "{error:?}");
    Ok(())
}

/// Each key would be kept with the keys above it.
#[test]
fn read_of_very_many_keys_onto_one_state_dict_keeps_few_paths() -> TestResult {
    const KEYS: usize = 2000;
    let weights = dict(&[("weight", &Claim::valid().pickled())]);
    let with_keys = |prefix: &str| {
        let mut bytes = [&weights[..], b"q\x010}"].concat();
        for key in 0..KEYS {
            bytes.extend(text(&format!("{prefix}{key}")));
            bytes.extend(b"h\x01s");
        }
        bytes
    };
    let root = |inner: &[u8]| pickle(&dict(&[("model", &weights), ("others", inner)]));
    let archive = Archive::new(&root(&with_keys("")), &[("data/0", &[0; 24])])?;
    let options = once_for_both::import::ImportOptions::default();
    let source = once_for_both::import::open(&archive.path(), &options)?.source;
    assert_eq!((source.entry.as_deref(), source.other_entries.len()), (Some("model"), 1024));
    let inner = pickle(&dict(&[("model", &with_keys("ema_"))]));
    let error = refusal_in_time(&inner)?;
    assert!(matches!(error, CheckpointError::TooMany { limit: 1024, .. }), "{error:?}");
    Ok(())
}

/// Many tensors may share the dict of their metadata, and each reads it.
#[test]
fn read_of_a_tensor_with_more_than_two_metadata_is_refused() -> TestResult {
    let mut tensor = Claim::valid().pickled();
    let end = tensor.split_off(tensor.len() - 2);
    assert_eq!(end, b"tR");
    for (entries, is_refused) in [(2, false), (3, true)] {
        let metadata: Vec<_> = (0..entries).map(|_| ("conj", &b"\x89"[..])).collect();
        let value = [&tensor[..], &dict(&metadata), &end].concat();
        let archive = Archive::new(&state_dict(&value), &[("data/0", &[0; 24])])?;
        match once_for_both::import::read(&archive.path()) {
            Ok(_) => assert!(!is_refused, "{entries} entries were read"),
            Err(error) => {
                assert!(is_refused, "{entries}: {error}");
                assert!(matches!(refusal(&archive.path()), CheckpointError::Pickle { .. }));
            }
        }
    }
    Ok(())
}
