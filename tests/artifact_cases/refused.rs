//! Damaged artifacts, and the error that each is refused with.

use super::{config, network, save};
use crate::support::{in_words, test_device, Tensors, TestResult};
use once_for_both::error::ArtifactError;
use once_for_both::models::VitConfig;
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
        Ok(fs::write(self.file(name), serde_json::to_vec(&value)?)?)
    }

    /// Edits the tensors of `model.safetensors`.
    fn retensor(&self, change: impl FnOnce(&mut Tensors)) -> TestResult {
        let path = self.file("model.safetensors");
        let mut tensors: Tensors = Tensor::read_safetensors(&path)?.into_iter().collect();
        change(&mut tensors);
        let named: Vec<_> = tensors.iter().collect();
        Ok(Tensor::write_safetensors(&named, &path)?)
    }

    /// Checks that `Description::read` and `Subnet::load` both refuse `file` for this reason.
    fn refused(&self, file: &str, reason: impl Fn(&ArtifactError) -> bool) -> TestResult {
        let read = Description::<VitConfig>::read(&self.path()).map(drop);
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
        write(&folder.file(name), &text[..text.len() / 2])?;
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
    folder.edit(CONFIG, |config| config["version"] = json!(2))?;
    folder.refused(CONFIG, |reason| {
        let message = reason.to_string();
        matches!(reason, ArtifactError::Version { supported: 1, found } if found == "2")
            && message == "version: got 2, expected 1; update once-for-both"
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
        write(&folder.file(WEIGHTS), &damaged)?;
        folder.refused(WEIGHTS, |reason| {
            matches!(reason, ArtifactError::Length { expected, actual }
                if *expected == length && *actual == damaged.len() as u64)
        })?;
    }
    for length in [0, 7, 8, 100] {
        write(&folder.file(WEIGHTS), &header(length))?;
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
        write(&folder.file(WEIGHTS), &damaged)?;
        folder.refused(WEIGHTS, |reason| matches!(reason, ArtifactError::Header { .. }))?;
    }
    Ok(())
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
fn artifact_with_another_weight_fails_its_checksum() -> TestResult {
    let folder = Folder::new()?;
    folder.retensor(|tensors| {
        let other = tensors["head.bias"].zeros_like();
        tensors.insert("head.bias".into(), other);
    })?;
    folder.refused(WEIGHTS, |reason| matches!(reason, ArtifactError::Checksum { .. }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn artifact_with_a_flipped_bit_in_the_weights_is_refused(place in 0.0..1.0, bit in 0..8u32) {
        in_words(flipped(WEIGHTS, place, bit, false))?;
    }

    /// A flipped bit in a digit of the provenance or of ε can go undetected. Loading never panics,
    /// and the weights it returns are the saved ones.
    #[test]
    fn artifact_with_a_flipped_bit_in_json_is_refused_or_loads_the_saved_weights(
        config in any::<bool>(), place in 0.0..1.0, bit in 0..8u32
    ) {
        in_words(flipped(if config { CONFIG } else { VERIFICATION }, place, bit, true))?;
    }
}

fn flipped(name: &str, place: f64, bit: u32, may_load: bool) -> TestResult {
    let folder = Folder::new()?;
    let mut bytes = fs::read(folder.file(name))?;
    let at = (place * bytes.len() as f64) as usize;
    bytes[at] ^= 1 << bit;
    write(&folder.file(name), &bytes)?;
    match Subnet::<VitConfig>::load(folder.path(), test_device()) {
        Err(Error::Artifact { .. }) => Ok(()),
        Ok(loaded) if may_load => {
            let head = &loaded.weights()["head.weight"];
            assert!(head.equal(&network(&config(false))?.weights()["head.weight"]));
            Ok(())
        }
        other => Err(format!("byte {at}, bit {bit}: {other:?}").into()),
    }
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
