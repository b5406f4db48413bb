//! Damaged artifacts, and the error that each is refused with.

use super::{config, images, network, save, swin};
use crate::assert_refused;
use crate::support::damage::{self, mutations, renew_checksums};
use crate::support::{in_words, test_device, Tensors, TestResult};
use once_for_both::error::ArtifactError;
use once_for_both::models::{AttentionPool, SwinConfig, VitConfig};
use once_for_both::subnet::{Description, Export, Subnet};
use once_for_both::Error;
use proptest::prelude::*;
use serde_json::{json, Value};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// A valid artifact in a temporary folder.
struct Folder {
    root: tempfile::TempDir,
}

impl Folder {
    fn new() -> TestResult<Self> {
        let root = tempfile::tempdir()?;
        save(&network(&config(false))?, &root.path().join("subnet"), &Export::default())?;
        Ok(Self { root })
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("subnet")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Edits a JSON file.
    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) -> TestResult {
        let mut value: Value = serde_json::from_slice(&fs::read(self.file(name))?)?;
        change(&mut value);
        self.put(name, &serde_json::to_vec(&value)?)
    }

    /// Replaces a file, and renews the checksums: the fault is to be found in its contents.
    fn put(&self, name: &str, bytes: &[u8]) -> TestResult {
        write(&self.file(name), bytes)?;
        renew_checksums(&self.path())
    }

    /// Edits the tensors of `model.safetensors`.
    fn retensor(&self, change: impl FnOnce(&mut Tensors)) -> TestResult {
        let path = self.file("model.safetensors");
        let mut tensors: Tensors = Tensor::read_safetensors(&path)?.into_iter().collect();
        change(&mut tensors);
        let named: Vec<_> = tensors.iter().collect();
        Tensor::write_safetensors(&named, &path)?;
        renew_checksums(&self.path())
    }

    /// Checks that `Description::read` and `Subnet::load` both refuse `file` for this reason.
    fn refused(&self, file: &str, reason: impl Fn(&ArtifactError) -> bool) -> TestResult {
        let read = Description::<VitConfig>::read(self.path()).map(drop);
        let load = Subnet::<VitConfig>::load(self.path(), test_device()).map(drop);
        for result in [read, load] {
            match result {
                Err(Error::Artifact { path, source })
                    if path == self.file(file) && reason(&source) => {}
                other => return Err(format!("not refused as expected: {other:?}").into()),
            }
        }
        Ok(())
    }
}

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const VERIFICATION: &str = "verification.json";
const CHECKSUMS: &str = "checksums.sfv";

const LOADER: &str = "load_subnet.py";

const FILES: [&str; 5] = [CONFIG, WEIGHTS, VERIFICATION, CHECKSUMS, LOADER];

fn write(path: &Path, bytes: &[u8]) -> TestResult {
    Ok(fs::write(path, bytes)?)
}

#[test]
fn artifact_without_one_of_its_files_is_refused() -> TestResult {
    for name in [CONFIG, WEIGHTS, VERIFICATION] {
        let folder = Folder::new()?;
        fs::remove_file(folder.file(name))?;
        match Subnet::<VitConfig>::load(folder.path(), test_device()) {
            Err(Error::Io { action: "read", path, .. }) if path == folder.file(name) => {}
            other => return Err(format!("{name}: {other:?}").into()),
        }
    }
    Ok(())
}

#[test]
fn artifact_with_truncated_json_is_refused() -> TestResult {
    for name in [CONFIG, VERIFICATION] {
        let folder = Folder::new()?;
        let text = fs::read(folder.file(name))?;
        folder.put(name, &text[..text.len() / 2])?;
        folder.refused(name, |reason| matches!(reason, ArtifactError::Json(_)))?;
    }
    Ok(())
}

#[test]
fn artifact_of_another_format_is_refused() -> TestResult {
    let folder = Folder::new()?;
    folder.edit(CONFIG, |config| config["format"] = json!("something/else"))?;
    folder.refused(CONFIG, |reason| {
        matches!(reason, ArtifactError::Foreign { field: "format", expected, found }
            if *expected == "once-for-both/subnet" && found.contains("something/else"))
    })
}

#[test]
fn artifact_of_another_family_is_refused() -> TestResult {
    let folder = Folder::new()?;
    folder.edit(CONFIG, |config| config["family"] = json!("swin"))?;
    folder.refused(CONFIG, |reason| {
        matches!(reason, ArtifactError::Foreign { field: "family", expected: "vit", .. })
    })
}

#[test]
fn artifact_of_a_newer_version_is_refused() -> TestResult {
    let folder = Folder::new()?;
    folder.edit(CONFIG, |config| config["version"] = json!(3))?;
    folder.refused(CONFIG, |reason| {
        let message = reason.to_string();
        matches!(reason, ArtifactError::Version { supported: 2, found } if found == "3")
            && message == "version: got 3, expected at most 2; update once-for-both"
    })
}

#[test]
fn artifact_with_an_invalid_architecture_is_refused() -> TestResult {
    // The last two would overflow or exhaust the memory.
    for (field, value) in [("patch_size", 5), ("embed_dim", 1 << 50), ("image_size", i64::MAX)] {
        let folder = Folder::new()?;
        folder.edit(CONFIG, |config| config["architecture"][field] = json!(value))?;
        folder.refused(CONFIG, |reason| {
            matches!(reason, ArtifactError::Architecture { source }
                if matches!(&**source, Error::Invalid { name, .. } if name == field))
        })?;
    }
    Ok(())
}

#[test]
fn artifact_with_an_unknown_option_of_its_architecture_is_refused_by_its_name() -> TestResult {
    for at in ["/architecture", "/architecture/blocks/1"] {
        let folder = Folder::new()?;
        folder.edit(CONFIG, |config| {
            if let Some(options) = config.pointer_mut(at) {
                options["aktivation"] = json!("relu");
            }
        })?;
        folder.refused(CONFIG, |reason| {
            matches!(reason, ArtifactError::Json(error) if error.to_string().contains("aktivation"))
        })?;
    }
    let unknown = |mut written: Value, at: &str| -> TestResult<Value> {
        written.pointer_mut(at).ok_or("no such part")?["aktivation"] = json!("relu");
        Ok(written)
    };
    for at in ["", "/stages/0"] {
        let read =
            serde_json::from_value::<SwinConfig>(unknown(serde_json::to_value(swin())?, at)?);
        assert!(read.is_err(), "{at}");
    }
    let pool = serde_json::to_value(AttentionPool::new(18, 3, 28))?;
    assert!(serde_json::from_value::<AttentionPool>(unknown(pool, "")?).is_err());
    Ok(())
}

#[test]
fn artifact_with_edited_costs_is_refused() -> TestResult {
    for (field, name) in [("macs", "MACs"), ("params", "parameters")] {
        let folder = Folder::new()?;
        let mut wrong = 0.0;
        folder.edit(CONFIG, |config| {
            wrong = config[field].as_f64().unwrap_or(0.0) + 1.0;
            config[field] = json!(wrong);
        })?;
        folder.refused(CONFIG, |reason| {
            matches!(reason, ArtifactError::Cost { metric, stated, computed }
                if *metric == name && *stated == wrong && *computed == wrong - 1.0)
        })?;
    }
    Ok(())
}

#[test]
fn artifact_with_truncated_or_extended_weights_is_refused() -> TestResult {
    let folder = Folder::new()?;
    let bytes = fs::read(folder.file(WEIGHTS))?;
    let length = bytes.len() as u64;
    let header = |length: usize| bytes[..length].to_vec();
    for damaged in [header(bytes.len() - 1), [&bytes[..], b"?"].concat()] {
        folder.put(WEIGHTS, &damaged)?;
        folder.refused(WEIGHTS, |reason| {
            matches!(reason, ArtifactError::Length { expected, actual }
                if *expected == length && *actual == damaged.len() as u64)
        })?;
    }
    for length in [0, 7, 8, 100] {
        folder.put(WEIGHTS, &header(length))?;
        folder.refused(WEIGHTS, |reason| matches!(reason, ArtifactError::Header { .. }))?;
    }
    Ok(())
}

#[test]
fn artifact_with_a_wrong_header_length_is_refused() -> TestResult {
    let folder = Folder::new()?;
    let bytes = fs::read(folder.file(WEIGHTS))?;
    for announced in [u64::MAX, 200_000_000, 10] {
        let damaged = [&announced.to_le_bytes(), &bytes[8..]].concat();
        folder.put(WEIGHTS, &damaged)?;
        folder.refused(WEIGHTS, |reason| matches!(reason, ArtifactError::Header { .. }))?;
    }
    Ok(())
}

#[test]
fn artifact_whose_header_announces_the_longest_data_is_refused_by_its_length() -> TestResult {
    let folder = Folder::new()?;
    // Each as long as a tensor may be: together 8 bytes below 2^64, without the header.
    let length = (1_u64 << 61) - 1;
    let entry = |at: u64| {
        let offsets = [at * length, (at + 1) * length];
        (at.to_string(), json!({ "dtype": "U8", "shape": [length], "data_offsets": offsets }))
    };
    let tensors: serde_json::Map<String, Value> = (0..8).map(entry).collect();
    let header = serde_json::to_vec(&tensors)?;
    folder.put(WEIGHTS, &[&(header.len() as u64).to_le_bytes(), &header[..]].concat())?;
    folder.refused(WEIGHTS, |reason| {
        matches!(reason, ArtifactError::Length { expected: u64::MAX, .. })
    })
}

#[test]
fn artifact_with_a_missing_or_an_extra_tensor_is_refused() -> TestResult {
    let folder = Folder::new()?;
    folder.retensor(|tensors| drop(tensors.remove("blocks.1.mlp.fc1.bias")))?;
    folder.refused(WEIGHTS, |reason| {
        matches!(reason, ArtifactError::Missing { tensor } if tensor == "blocks.1.mlp.fc1.bias")
    })?;
    let folder = Folder::new()?;
    folder.retensor(|tensors| {
        tensors.insert(
            "dist_token".into(),
            Tensor::zeros([1, 1, 20], (Kind::Float, tch::Device::Cpu)),
        );
    })?;
    folder.refused(
        WEIGHTS,
        |reason| matches!(reason, ArtifactError::Unexpected { tensor } if tensor == "dist_token"),
    )
}

#[test]
fn artifact_with_a_tensor_of_another_shape_is_refused() -> TestResult {
    let folder = Folder::new()?;
    // Transposed: as many numbers, another shape.
    folder.retensor(|tensors| {
        let turned = tensors["head.weight"].transpose(0, 1).contiguous();
        tensors.insert("head.weight".into(), turned);
    })?;
    folder.refused(WEIGHTS, |reason| {
        matches!(reason, ArtifactError::Shape { tensor, expected, actual }
            if tensor == "head.weight" && expected[..] == [7, 20] && actual[..] == [20, 7])
    })
}

#[test]
fn artifact_with_a_tensor_of_another_type_is_refused() -> TestResult {
    let folder = Folder::new()?;
    folder.retensor(|tensors| {
        let half = tensors["head.bias"].to_kind(Kind::Half);
        tensors.insert("head.bias".into(), half);
    })?;
    folder.refused(WEIGHTS, |reason| {
        matches!(reason, ArtifactError::Precision { tensor, expected: "f32", actual }
            if tensor == "head.bias" && actual == "f16")
    })?;
    let folder = Folder::new()?;
    folder.edit(CONFIG, |config| config["dtype"] = json!("bf16"))?;
    folder.refused(WEIGHTS, |reason| {
        matches!(reason, ArtifactError::Precision { expected: "bf16", actual, .. } if actual == "f32")
    })?;
    folder.edit(CONFIG, |config| config["dtype"] = json!("f8"))?;
    folder.refused(CONFIG, |reason| matches!(reason, ArtifactError::Json(_)))
}

#[test]
fn artifact_with_integers_in_place_of_weights_is_refused() -> TestResult {
    let folder = Folder::new()?;
    folder.retensor(|tensors| {
        let integers = tensors["head.bias"].to_kind(Kind::Int64);
        tensors.insert("head.bias".into(), integers);
    })?;
    let crc32 = crc32fast::hash(&fs::read(folder.file(WEIGHTS))?);
    folder.edit(CONFIG, |config| config["weights_crc32"] = json!(crc32))?;
    let refused = Subnet::<VitConfig>::load(folder.path(), test_device());
    assert_refused!(refused, Error::Artifact { ref path, ref source }
        if *path == folder.file(WEIGHTS) && matches!(&**source, ArtifactError::Precision { tensor, expected: "f32", actual }
            if tensor == "head.bias" && actual == "i64"));
    Ok(())
}

#[test]
fn artifact_with_another_weight_fails_its_checksum() -> TestResult {
    let folder = Folder::new()?;
    folder.retensor(|tensors| {
        let other = tensors["head.bias"].zeros_like();
        tensors.insert("head.bias".into(), other);
    })?;
    folder.refused(WEIGHTS, |reason| matches!(reason, ArtifactError::Checksum { .. }))
}

#[test]
fn artifact_with_any_bit_flipped_is_refused() -> TestResult {
    let folder = Folder::new()?;
    let flips = (0..FILES.len(), any::<prop::sample::Index>(), 0..8u32);
    proptest!(damage::config(2000)?, |((file, place, bit) in flips)| {
        in_words(flipped(&folder, FILES[file], place, bit))?;
    });
    Ok(())
}

fn flipped(folder: &Folder, name: &str, place: prop::sample::Index, bit: u32) -> TestResult {
    let bytes = fs::read(folder.file(name))?;
    let (mut damaged, at) = (bytes.clone(), place.index(bytes.len()));
    damaged[at] ^= 1 << bit;
    write(&folder.file(name), &damaged)?;
    let read = Description::<VitConfig>::read(folder.path()).map(drop);
    write(&folder.file(name), &bytes)?;
    match read {
        Err(Error::Artifact { .. }) => Ok(()),
        other => Err(format!("{name}: byte {at}, bit {bit}: {other:?}").into()),
    }
}

/// With right checksums, a mutated description or verification is refused with its reason, or the
/// subnet loads and predicts.
#[test]
fn artifact_with_mutated_json_is_refused_or_predicts() -> TestResult {
    let folder = Folder::new()?;
    let images = images(&config(false), 2)?;
    for name in [CONFIG, VERIFICATION] {
        let whole: Value = serde_json::from_slice(&fs::read(folder.file(name))?)?;
        proptest!(damage::config(150)?, |(mutation in mutations())| {
            let predicts = || -> TestResult {
                let mut mutated = whole.clone();
                let place = mutation.apply(&mut mutated);
                folder.put(name, &serde_json::to_vec(&mutated)?)?;
                match Subnet::<VitConfig>::load(folder.path(), test_device()) {
                    Ok(subnet) => Ok(subnet.predict(&images).map(drop)?),
                    Err(Error::Artifact { .. }) => Ok(()),
                    Err(other) => Err(format!("{place}: {other:?}").into()),
                }
            };
            in_words(predicts())?;
        });
        folder.put(name, &serde_json::to_vec(&whole)?)?;
    }
    Ok(())
}

#[test]
fn artifact_with_a_changed_size_or_epsilon_fails_its_checksum() -> TestResult {
    let changes: [fn(&mut Value); 3] = [
        |config| config["architecture"]["norm_eps"] = json!(1e-5),
        |config| config["architecture"]["blocks"][0]["scale_dim"] = json!(9),
        |config| config["architecture"]["blocks"][0]["hidden_dim"] = json!(41),
    ];
    for change in changes {
        let folder = Folder::new()?;
        let mut value: Value = serde_json::from_slice(&fs::read(folder.file(CONFIG))?)?;
        change(&mut value);
        write(&folder.file(CONFIG), &serde_json::to_vec_pretty(&value)?)?;
        folder.refused(CONFIG, |reason| matches!(reason, ArtifactError::Checksum { .. }))?;
    }
    Ok(())
}

#[test]
fn artifact_without_a_checksum_of_one_of_its_files_is_refused() -> TestResult {
    for name in [CONFIG, WEIGHTS, VERIFICATION] {
        let folder = Folder::new()?;
        let list = fs::read_to_string(folder.file(CHECKSUMS))?;
        let others: String =
            list.split_inclusive('\n').filter(|line| !line.starts_with(name)).collect();
        write(&folder.file(CHECKSUMS), others.as_bytes())?;
        folder.refused(
            CHECKSUMS,
            |reason| matches!(reason, ArtifactError::Checksums { reason } if reason.contains(name)),
        )?;
    }
    Ok(())
}

#[test]
fn artifact_with_a_failed_verification_is_refused() -> TestResult {
    let folder = Folder::new()?;
    folder.edit(VERIFICATION, |differences| differences["real_images"] = json!(0.5))?;
    let failed = |reason: &ArtifactError| {
        matches!(reason, ArtifactError::Unverified { difference: 0.5, .. })
    };
    folder.refused(VERIFICATION, failed)?;
    // A larger tolerance in the file does not make it pass.
    folder.edit(VERIFICATION, |differences| differences["tolerance"] = json!(1e9))?;
    folder.refused(VERIFICATION, failed)
}
