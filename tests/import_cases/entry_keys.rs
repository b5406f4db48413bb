//! Where the state dict is in a checkpoint of `torch.save`.

use super::archives::{dict, pickle, text, Archive, Claim};
use super::refusal;
use crate::support::TestResult;
use once_for_both::error::CheckpointError;
use once_for_both::import::{self, Checkpoint, ImportOptions};

const OBJECT: &[u8] = b"cmodel\nNetwork\n)\x81";

/// A state dict with one tensor of this name.
fn weights(name: &str) -> Vec<u8> {
    dict(&[(name, &Claim::valid().pickled())])
}

fn archive(root: &[(&str, &[u8])]) -> TestResult<Archive> {
    Archive::new(&pickle(&dict(root)), &[("data/0", &[0; 24])])
}

fn open(root: &[(&str, &[u8])], entry: Option<&str>) -> TestResult<Checkpoint> {
    let options = ImportOptions { entry: entry.map(str::to_owned), ..Default::default() };
    Ok(import::open(&archive(root)?.path(), &options)?)
}

/// The names of the tensors that were read.
fn names(checkpoint: &Checkpoint) -> Vec<&str> {
    checkpoint.weights.keys().map(String::as_str).collect()
}

#[test]
fn open_with_raw_and_ema_weights_takes_the_ema_and_says_so() -> TestResult {
    let (raw, ema) = (weights("raw"), weights("ema"));
    for (raw_key, ema_key) in [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
        ("model", "ema_state_dict"),
        ("net", "ema"),
    ] {
        let root: [(&str, &[u8]); 3] = [(raw_key, &raw), (ema_key, &ema), ("epoch", b"K\x01")];
        let checkpoint = open(&root, None)?;
        assert_eq!(names(&checkpoint), ["ema"], "{ema_key}");
        assert_eq!(checkpoint.source.entry.as_deref(), Some(ema_key));
        assert!(checkpoint.source.ema, "{ema_key}");
        assert_eq!(checkpoint.source.other_entries, [raw_key]);

        let checkpoint = open(&root, Some(raw_key))?;
        assert_eq!(names(&checkpoint), ["raw"], "{raw_key}");
        assert!(!checkpoint.source.ema, "{raw_key}");
    }
    Ok(())
}

#[test]
fn open_with_an_ema_under_an_unlisted_key_takes_the_ema() -> TestResult {
    let (raw, ema) = (weights("raw"), weights("ema"));
    for key in ["net_ema", "ema_net", "shadow", "shadow_params", "EMAWeights"] {
        let checkpoint = open(&[("net", &raw), (key, &ema)], None)?;
        assert_eq!((names(&checkpoint), checkpoint.source.ema), (vec!["ema"], true), "{key}");
        assert_eq!(checkpoint.source.other_entries, ["net"]);
    }
    let shadow = dict(&[("decay", b"G\0\0\0\0\0\0\0\0"), ("shadow", &ema)]);
    let source = open(&[("model", &raw), ("ema", &shadow)], None)?.source;
    assert_eq!((source.entry.as_deref(), source.ema), (Some("ema.shadow"), true));
    let source = open(&[("model", &raw), ("schema", &ema)], None)?.source;
    assert_eq!((source.entry.as_deref(), source.ema), (Some("model"), false));
    Ok(())
}

#[test]
fn open_with_a_key_that_says_without_ema_takes_the_other_weights() -> TestResult {
    let (own, other) = (weights("own"), weights("other"));
    for key in [
        "state_dict_non_ema",
        "model_no_ema",
        "without_ema",
        "not-ema",
        "modelNonEMA",
        "noEma",
        "raw_ema_state_dict",
    ] {
        let checkpoint = open(&[("state_dict", &own), (key, &other)], None)?;
        assert_eq!((names(&checkpoint), checkpoint.source.ema), (vec!["own"], false), "{key}");
        assert_eq!(checkpoint.source.other_entries, [key]);
        let alone = open(&[(key, &other), ("epoch", b"K\x03")], None)?;
        assert_eq!((names(&alone), alone.source.ema), (vec!["other"], false), "{key}");
        assert_eq!(alone.source.entry.as_deref(), Some(key));
    }
    // Other words that end as these do.
    for key in ["casino_ema", "carbonEMA"] {
        let checkpoint = open(&[("state_dict", &other), (key, &own)], None)?;
        assert_eq!((names(&checkpoint), checkpoint.source.ema), (vec!["own"], true), "{key}");
    }
    Ok(())
}

#[test]
fn open_with_arguments_that_are_not_in_utf_8_ignores_them() -> TestResult {
    // What argparse has of a path in Latin-1.
    let path = b"X\x0c\0\0\0/data/caf\xed\xb3\xa9";
    let arguments = dict(&[("data", path)]);
    for beside in [&path[..], &arguments] {
        let checkpoint = open(&[("model", &weights("own")), ("args", beside)], None)?;
        assert_eq!(names(&checkpoint), ["own"]);
    }
    Ok(())
}

/// torch_ema saves its tensors without their names.
#[test]
fn open_with_an_ema_in_a_list_takes_the_raw_weights_and_lists_it() -> TestResult {
    let list = dict(&[("decay", b"G\0\0\0\0\0\0\0\0"), ("shadow_params", b"]")]);
    let source = open(&[("state_dict", &weights("raw")), ("ema", &list)], None)?.source;
    assert_eq!((source.entry.as_deref(), source.ema), (Some("state_dict"), false));
    assert_eq!(source.other_entries, ["ema.shadow_params (a list, without names)"]);
    Ok(())
}

#[test]
fn open_with_numbers_of_an_ema_alone_takes_the_raw_weights() -> TestResult {
    let tensor = Claim::valid().pickled();
    let raw = dict(&[("a", &tensor), ("b", &tensor), ("c", &tensor)]);
    let source = open(&[("net", &raw), ("ema_loss", &weights("ema"))], None)?.source;
    assert_eq!((source.entry.as_deref(), source.ema), (Some("net"), false));
    assert_eq!(source.other_entries, ["ema_loss"]);
    Ok(())
}

#[test]
fn open_lists_every_dict_of_tensors_that_is_not_taken() -> TestResult {
    let w = weights("w");
    let model = dict(&[("state_dict", &w)]);
    let root: [(&str, &[u8]); 5] = [
        ("model_ema", &w),
        ("state_dict_ema", &w),
        ("model", &model),
        ("mine", &w),
        ("optimizer", &w),
    ];
    let source = open(&root, None)?.source;
    assert_eq!(source.entry.as_deref(), Some("state_dict_ema"));
    assert_eq!(source.other_entries, ["model_ema", "model.state_dict", "mine"]);
    // The same dict under several keys, as pickle stores it.
    let (student, teacher, model) = (text("student"), text("teacher"), text("model"));
    let shared =
        [&b"}"[..], &student, &w, b"q\x01s", &teacher, b"h\x01s", &model, b"h\x01s"].concat();
    let shared = Archive::new(&pickle(&shared), &[("data/0", &[0; 24])])?;
    let source = import::open(&shared.path(), &ImportOptions::default())?.source;
    assert_eq!(source.entry.as_deref(), Some("model"));
    assert_eq!(source.other_entries, ["teacher", "student"]);
    Ok(())
}

#[test]
fn open_with_an_ema_of_none_or_without_tensors_takes_the_raw_weights() -> TestResult {
    let (raw, decay) = (weights("raw"), dict(&[("decay", b"G\0\0\0\0\0\0\0\0")]));
    for ema in [b"N".as_slice(), b"}", &decay] {
        let checkpoint = open(&[("model", &raw), ("ema", ema)], None)?;
        assert_eq!((names(&checkpoint), checkpoint.source.ema), (vec!["raw"], false));
    }
    Ok(())
}

/// The raw weights beside it are not what a checkpoint with an EMA is for.
#[test]
fn open_with_a_pickled_ema_module_is_refused_unless_an_entry_is_chosen() -> TestResult {
    let raw = weights("raw");
    let root: [(&str, &[u8]); 2] = [("model", &raw), ("model_ema", OBJECT)];
    match refusal(&archive(&root)?.path()) {
        CheckpointError::ForeignGlobal { entry, global } => {
            assert_eq!((&*entry, &*global), ("model_ema", "model.Network"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&open(&root, Some("model"))?), ["raw"]);
    Ok(())
}

#[test]
fn open_finds_the_weights_under_the_keys_of_training_scripts() -> TestResult {
    let inner = weights("w");
    for key in [
        "state_dict",
        "model",
        "model_state_dict",
        "model_state",
        "net",
        "network",
        "module",
        "params",
        "weights",
        "backbone",
        "teacher",
        "student",
        "model_ema",
    ] {
        let checkpoint = open(&[("epoch", b"K\x01"), (key, &inner), ("args", OBJECT)], None)?;
        assert_eq!(names(&checkpoint), ["w"], "{key}");
        assert_eq!(checkpoint.source.entry.as_deref(), Some(key));
    }
    Ok(())
}

#[test]
fn open_finds_the_weights_under_nested_keys() -> TestResult {
    let inner = dict(&[("module", &weights("w")), ("updates", b"K\x07")]);
    let root: [(&str, &[u8]); 2] = [("ema", &inner), ("loss", &Claim::valid().pickled())];
    let checkpoint = open(&root, None)?;
    assert_eq!(names(&checkpoint), ["w"]);
    assert_eq!(checkpoint.source.entry.as_deref(), Some("ema.module"));
    assert!(checkpoint.source.ema);
    Ok(())
}

#[test]
fn open_of_student_and_teacher_takes_the_teacher() -> TestResult {
    let (student, teacher) = (weights("student"), weights("teacher"));
    let checkpoint = open(&[("student", &student), ("teacher", &teacher)], None)?;
    assert_eq!(checkpoint.source.entry.as_deref(), Some("teacher"));
    assert_eq!(checkpoint.source.other_entries, ["student"]);
    Ok(())
}

#[test]
fn open_of_weights_under_an_unknown_key_is_refused_with_the_keys() -> TestResult {
    let inner = weights("w");
    let root: [(&str, &[u8]); 3] = [("epoch", b"K\x01"), ("my.weights", &inner), ("loss", OBJECT)];
    match refusal(&archive(&root)?.path()) {
        CheckpointError::StateDictMissing { looked_for, found } => {
            assert!(looked_for.contains(&"model_state_dict"));
            assert_eq!(found, ["epoch", "my.weights", "loss"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&open(&root, Some("my.weights"))?), ["w"]);
    // Weights that only look like the whole: a value beside them is a dict of tensors.
    let root: [(&str, &[u8]); 2] = [("loss", &Claim::valid().pickled()), ("mine", &inner)];
    let error = refusal(&archive(&root)?.path());
    assert!(matches!(error, CheckpointError::StateDictMissing { .. }), "{error:?}");
    Ok(())
}

#[test]
fn open_with_an_entry_that_is_not_there_is_refused_with_the_keys() -> TestResult {
    let inner = weights("w");
    for entry in ["mode", "model.inner", "model.", "epoch", "."] {
        let options = ImportOptions { entry: Some(entry.into()), ..Default::default() };
        let archive = archive(&[("model", &inner), ("epoch", b"K\x01")])?;
        match import::open(&archive.path(), &options) {
            Err(once_for_both::Error::Checkpoint { source, .. }) => match *source {
                CheckpointError::EntryUnknown { entry: refused, found } => {
                    assert_eq!(
                        (&*refused, &found[..]),
                        (entry, &["model".into(), "epoch".into()][..])
                    );
                }
                other => panic!("{entry}: {other:?}"),
            },
            other => panic!("{entry}: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn open_with_an_entry_without_tensors_is_refused_as_such() -> TestResult {
    let inner = weights("w");
    for (entry, words) in [("epoch", "which holds no tensors"), ("mine", "which is not there")] {
        match open(&[("model", &inner), ("epoch", b"K\x01")], Some(entry)) {
            Err(error) => {
                let source = error.source().map(ToString::to_string).unwrap_or_default();
                assert!(source.contains(words), "{source}");
            }
            Ok(checkpoint) => return Err(format!("{:?}", names(&checkpoint)).into()),
        }
    }
    Ok(())
}

#[test]
fn open_of_an_empty_dict_or_file_is_refused_as_empty() -> TestResult {
    let error = refusal(&archive(&[])?.path()).to_string();
    assert!(error.contains("got an empty dict,"), "{error}");
    let (_folder, path) = super::refused::file(b"")?;
    let error = refusal(&path).to_string();
    assert!(error.contains("got an empty file,"), "{error}");
    Ok(())
}

/// The empty entry is the whole file; other values than tensors are refused there.
#[test]
fn open_with_an_empty_entry_reads_the_whole_file() -> TestResult {
    let tensor = Claim::valid().pickled();
    assert_eq!(names(&open(&[("model", &tensor)], Some(""))?), ["model"]);
    Ok(())
}

/// Every dict is visited once, however many keys lead to it.
#[test]
fn open_of_dicts_that_contain_themselves_ends() -> TestResult {
    let mut root = b"}q\x01".to_vec();
    for key in ["state_dict", "model", "net", "module", "ema"] {
        root.extend([&text(key)[..], b"h\x01s"].concat());
    }
    let archive = Archive::new(&pickle(&root), &[])?;
    assert!(matches!(refusal(&archive.path()), CheckpointError::StateDictMissing { .. }));
    Ok(())
}
