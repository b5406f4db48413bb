//! Files and folders that hold weights, or stand for them.

use super::refused::file;
use super::{data, refusal};
use crate::support::{numbers, TestResult};
use once_for_both::error::CheckpointError;
use once_for_both::import::{self, Container, ImportOptions, Weights};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// A safetensors file with one tensor of this type, of 8 bytes.
fn safetensors(dtype: &str, shape: &[usize]) -> Vec<u8> {
    let info = json!({"dtype": dtype, "shape": shape, "data_offsets": [0, 8]});
    let header = json!({"norm.bias": info}).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat()
}

#[test]
fn read_of_an_unsupported_safetensors_type_is_refused_by_tensor_and_type() -> TestResult {
    for (dtype, shape) in [
        ("F8_E4M3", &[8][..]),
        ("F8_E5M2", &[2, 4]),
        ("F8_E8M0", &[8]),
        ("F4", &[16]),
        ("C64", &[1]),
        ("C128", &[1]),
        ("I4", &[16]),
        ("XX", &[1]),
        ("U16", &[4]),
        ("U32", &[2]),
        ("U64", &[1]),
    ] {
        let (_folder, path) = file(&safetensors(dtype, shape))?;
        match refusal(&path) {
            CheckpointError::Type { tensor, found } => {
                assert_eq!((&*tensor, &*found), ("norm.bias", dtype));
            }
            other => panic!("{dtype}: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn read_of_a_safetensors_file_returns_every_type() -> TestResult {
    for (dtype, shape, kind) in [
        ("F64", &[1][..], Kind::Double),
        ("F32", &[2, 1], Kind::Float),
        ("F16", &[4], Kind::Half),
        ("BF16", &[2, 2], Kind::BFloat16),
        ("I64", &[1], Kind::Int64),
        ("I32", &[2], Kind::Int),
        ("I16", &[4], Kind::Int16),
        ("I8", &[8], Kind::Int8),
        ("U8", &[8], Kind::Uint8),
        ("BOOL", &[8], Kind::Uint8),
    ] {
        let (_folder, path) = file(&safetensors(dtype, shape))?;
        let weights = import::read(&path)?;
        let tensor = &weights["norm.bias"];
        let size: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        assert_eq!((tensor.kind(), &size[..]), (kind, shape), "{dtype}");
    }
    Ok(())
}

#[test]
fn read_of_a_safetensors_file_that_lies_about_its_sizes_is_refused() -> TestResult {
    let mut huge = safetensors("F32", &[1 << 62, 0]);
    huge.truncate(huge.len() - 8);
    for bytes in [
        safetensors("F32", &[3]),
        safetensors("F32", &[1 << 40, 1 << 40]),
        safetensors("F32", &[usize::MAX]),
        [safetensors("F32", &[2]), vec![0]].concat(),
        huge,
    ] {
        let (_folder, path) = file(&bytes)?;
        assert!(matches!(refusal(&path), CheckpointError::Safetensors { .. }));
    }
    Ok(())
}

#[test]
fn read_of_a_folder_with_weights_of_another_program_is_refused_with_what_it_is() -> TestResult {
    for (name, word) in [
        ("tf_model.h5", "TensorFlow"),
        ("flax_model.msgpack", "Flax"),
        ("adapter_model.safetensors", "PEFT"),
        ("adapter_model.bin", "PEFT"),
        ("weights.bin", "model.safetensors"),
    ] {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("config.json"), r#"{ "model_type": "vit" }"#)?;
        std::fs::write(folder.path().join(name), "weights")?;
        assert!(import::is_checkpoint(folder.path()), "{name}");
        let error = refusal(folder.path()).to_string();
        assert!(error.contains(word), "{name}: {error}");
    }
    Ok(())
}

#[test]
fn read_of_a_git_lfs_pointer_is_refused_with_what_to_do() -> TestResult {
    let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 88\n";
    let (_folder, path) = file(text.as_bytes())?;
    let error = refusal(&path);
    assert!(matches!(error, CheckpointError::NotWeights { .. }), "{error:?}");
    assert!(error.to_string().contains("git lfs pull"), "{error}");
    Ok(())
}

#[test]
fn read_of_a_json_file_that_is_no_index_is_refused_with_what_to_do() -> TestResult {
    let (_folder, path) = file(br#"{ "model_type": "vit" }"#)?;
    let error = refusal(&path);
    assert!(matches!(error, CheckpointError::NotWeights { .. }), "{error:?}");
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    Ok(())
}

#[test]
fn open_of_a_safetensors_file_with_an_entry_is_refused() {
    let options = ImportOptions { entry: Some("model".into()), ..Default::default() };
    match import::open(&data("timm_plain.safetensors"), &options) {
        Err(once_for_both::Error::Checkpoint { source, .. }) => {
            assert!(matches!(*source, CheckpointError::EntryUnused { .. }), "{source:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// A folder with the tensors of `hf_vit.safetensors` in two files, and their index.
fn sharded(change: impl Fn(&mut Value)) -> TestResult<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let mut shards = [Vec::new(), Vec::new()];
    let mut index = json!({"metadata": {"total_size": 1}, "weight_map": {}});
    for (at, (name, tensor)) in import::read(&data("hf_vit.safetensors"))?.into_iter().enumerate() {
        index["weight_map"][&name] = json!(format!("shard-{}.safetensors", at % 2));
        shards[at % 2].push((name, tensor));
    }
    for (at, shard) in shards.iter().enumerate() {
        let path = folder.path().join(format!("shard-{at}.safetensors"));
        Tensor::write_safetensors(shard, path)?;
    }
    change(&mut index);
    let path = folder.path().join("model.safetensors.index.json");
    std::fs::write(&path, serde_json::to_string_pretty(&index)?)?;
    Ok((folder, path))
}

fn same(actual: &Weights, expected: &Weights) -> TestResult {
    assert!(actual.keys().eq(expected.keys()));
    for (name, tensor) in actual {
        assert_eq!(numbers(tensor)?, numbers(&expected[name])?, "{name}");
    }
    Ok(())
}

#[test]
fn open_of_a_folder_or_index_of_transformers_reads_its_files() -> TestResult {
    let expected = import::read(&data("hf_vit.safetensors"))?;
    let (folder, index) = sharded(|_| {})?;
    for path in [folder.path(), &index] {
        let checkpoint = import::open(path, &ImportOptions::default())?;
        same(&checkpoint.weights, &expected)?;
        assert_eq!(checkpoint.source.container, Container::Shards);
        assert_eq!(checkpoint.source.files, ["shard-0.safetensors", "shard-1.safetensors"]);
    }
    std::fs::copy(data("hf_vit.safetensors"), folder.path().join("model.safetensors"))?;
    let checkpoint = import::open(folder.path(), &ImportOptions::default())?;
    same(&checkpoint.weights, &expected)?;
    assert_eq!(checkpoint.source.container, Container::Safetensors);
    assert_eq!(checkpoint.source.files, ["model.safetensors"]);
    Ok(())
}

#[test]
fn read_of_an_index_that_differs_from_its_files_is_refused() -> TestResult {
    let head = "classifier.bias";
    for (words, change) in [
        ("no entry for classifier.bias", None),
        ("no entry for classifier.bias", Some("shard-1.safetensors")),
        ("without a folder", Some("../shard-0.safetensors")),
        ("without a folder", Some("/shard-0.safetensors")),
        ("another index", Some("model.safetensors.index.json")),
    ] {
        let (_folder, path) = sharded(|index| match change {
            Some(file) => index["weight_map"][head] = json!(file),
            None => {
                index["weight_map"].as_object_mut().map(|map| map.remove(head));
            }
        })?;
        let chain = causes(&refusal(&path));
        assert!(chain.contains(words), "{words}: {chain}");
    }
    let (_folder, path) =
        sharded(|index| index["weight_map"]["more"] = json!("shard-0.safetensors"))?;
    assert!(causes(&refusal(&path)).contains("more, which is not in shard-0.safetensors"));
    let (_folder, path) = sharded(|index| index["weight_map"] = json!(["a"]))?;
    assert!(matches!(refusal(&path), CheckpointError::Index { .. }));
    Ok(())
}

#[test]
fn read_of_an_index_with_a_missing_file_is_refused_by_name() -> TestResult {
    let (folder, path) = sharded(|_| {})?;
    // The first one is not read in vain: its damage is not noticed.
    std::fs::write(folder.path().join("shard-0.safetensors"), "damaged")?;
    std::fs::remove_file(folder.path().join("shard-1.safetensors"))?;
    let error = refusal(&path);
    assert!(matches!(error, CheckpointError::Index { .. }), "{error:?}");
    let expected = "index of the shards: got no file shard-1.safetensors, expected all of its \
                    files beside it; fetch that file, too";
    assert_eq!(error.to_string(), expected);
    Ok(())
}

/// An error and its causes, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn read_of_an_artifact_of_this_crate_is_refused_with_what_to_do() -> TestResult {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("config.json"), r#"{"format": "once-for-both/subnet"}"#)?;
    std::fs::copy(data("timm_plain.safetensors"), folder.path().join("model.safetensors"))?;
    let error = refusal(folder.path());
    assert!(error.to_string().contains("Subnet::load"), "{error}");
    Ok(())
}

#[cfg(unix)]
#[test]
fn read_of_a_device_is_refused() {
    let error = refusal(Path::new("/dev/null"));
    assert!(matches!(error, CheckpointError::NotWeights { .. }), "{error:?}");
}
