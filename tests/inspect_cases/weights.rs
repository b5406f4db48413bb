//! Weights of other programs.

use super::{file, look};
use crate::support::TestResult;
use once_for_both::pipeline::{inspect, InspectOptions};
use once_for_both::Error;
use std::fs;

#[test]
fn weights_are_shown_with_naming_entry_prefix_and_assumptions() -> TestResult {
    let options = InspectOptions { heads: Some(2), ..InspectOptions::default() };
    let found = inspect(&file("tests/data/import/timm_distilled.safetensors"), &options)?;
    let json = serde_json::to_value(&found)?;
    assert_eq!((&json["kind"], &json["report"]["naming"]), (&"weights".into(), &"timm".into()));
    assert_eq!(json["report"]["source"]["container"], "safetensors");
    let text = found.to_string();
    for part in ["naming        timm", "prefix        none", "raw weights", "assumed       heads"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    Ok(())
}

#[test]
fn tensors_that_the_network_does_not_use_are_shown_apart_from_those_left_out() -> TestResult {
    let path = file("tests/data/import/family/hf_dinov2/model.safetensors");
    let text = look(&path)?.to_string();
    assert!(text.contains("not used      dinov2.embeddings.mask_token"), "{text}");
    assert!(!text.contains("left out"), "{text}");
    Ok(())
}

#[test]
fn weights_of_another_kind_are_refused_as_the_import_refuses_them() -> TestResult {
    let path = file("tests/data/import/whole_module.pth");
    let own = once_for_both::import::read(&path).map(drop).map_err(|error| error.to_string());
    let found = look(&path).map(drop).map_err(|error| error.to_string());
    assert!(own.is_err());
    assert_eq!(own, found);
    Ok(())
}

/// torch's own example of ImageNet saves `checkpoint.pth.tar`.
#[test]
fn checkpoint_named_tar_is_inspected_as_weights() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("checkpoint.pth.tar");
    fs::copy(file("tests/data/import/bfloat16_parameters.pth"), &path)?;
    let own = look(&file("tests/data/import/bfloat16_parameters.pth"));
    let (own, found) = (own.map(|f| f.to_string()), look(&path).map(|f| f.to_string()));
    let words = |result: Result<String, Error>| match result {
        Ok(text) => text,
        Err(error) => format!("{:?}", std::error::Error::source(&error).map(|e| e.to_string())),
    };
    let (own, found) = (words(own), words(found));
    assert!(!found.contains("shard"), "{found}");
    assert_eq!(own, found);
    Ok(())
}

#[test]
fn folder_of_transformers_without_weights_for_torch_is_refused_with_what_it_is() -> TestResult {
    for (config, name, word) in [
        (true, "tf_model.h5", "TensorFlow"),
        (true, "flax_model.msgpack", "Flax"),
        (false, "adapter_model.safetensors", "PEFT"),
    ] {
        let folder = tempfile::tempdir()?;
        if config {
            fs::write(folder.path().join("config.json"), r#"{"model_type": "vit"}"#)?;
        }
        fs::write(folder.path().join(name), "weights")?;
        match look(folder.path()) {
            Err(Error::Checkpoint { source, .. }) => {
                assert!(source.to_string().contains(word), "{source}");
            }
            other => return Err(format!("{name}: {other:?}").into()),
        }
    }
    Ok(())
}
