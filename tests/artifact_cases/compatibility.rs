//! Artifacts of earlier versions still load.

use super::{network, save};
use crate::support::damage::renew_checksums;
use crate::support::{test_device, TestResult};
use once_for_both::models::VitConfig;
use once_for_both::subnet::{Description, Export, Subnet};
use once_for_both::Error;
use serde_json::{json, Value};
use std::fs;

/// `config.json` as first written, without checksums of the other files: `examples/pretrained/fashion-mnist`, with one smaller block.
fn config(macs: f64, params: f64, weights_crc32: u32) -> Value {
    json!({
        "format": "once-for-both/subnet",
        "version": 1,
        "family": "vit",
        "architecture": {
            "image_size": 28,
            "patch_size": 4,
            "in_channels": 1,
            "classes": 10,
            "embed_dim": 12,
            "blocks": [{ "heads": 2, "head_dim": 3, "hidden_dim": 8, "scale_dim": 3 }],
            "distilled": false,
            "norm_eps": 1e-6,
            "drop_path": 0.0,
            "layer_scale": null,
            "pooling": "class_token"
        },
        "dtype": "f32",
        "macs": macs,
        "params": params,
        "weights_crc32": weights_crc32,
        "provenance": {
            "crate_version": "0.1.0",
            "seed": 0,
            "steps": 2340,
            "dense_macs": 24114624.0,
            "dense_params": 455050.0
        }
    })
}

#[test]
fn artifact_of_version_1_without_checksums_limits_and_components_loads() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    let architecture = config(0.0, 0.0, 0)["architecture"].take();
    let subnet = network(&serde_json::from_value::<VitConfig>(architecture)?)?;
    save(&subnet, &path, &Export::f32())?;
    let crc32 = Description::<VitConfig>::read(&path)?.weights_crc32;
    let text = config(subnet.macs()?, subnet.params()?, crc32).to_string();
    fs::write(path.join("config.json"), text)?;
    fs::remove_file(path.join("checksums.sfv"))?;

    let provenance = Description::<VitConfig>::read(&path)?.provenance;
    assert_eq!((provenance.steps, provenance.dense_params), (Some(2340), 455_050.0));
    assert!(provenance.limits.is_empty() && provenance.components.is_none());
    let loaded = Subnet::<VitConfig>::load(&path, test_device())?;
    for (name, tensor) in subnet.weights() {
        assert!(loaded.weights()[name].equal(tensor), "{name}");
    }
    Ok(())
}

/// Otherwise a changed size would be accepted after a change of the version.
#[test]
fn artifact_of_version_1_beside_checksums_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    save(&network(&super::config(false))?, &path, &Export::f32())?;
    let mut config: Value = serde_json::from_slice(&fs::read(path.join("config.json"))?)?;
    config["version"] = json!(1);
    config["architecture"]["norm_eps"] = json!(0.5);
    fs::write(path.join("config.json"), config.to_string())?;
    for renew in [false, true] {
        if renew {
            renew_checksums(&path)?;
        }
        match Description::<VitConfig>::read(&path) {
            Err(Error::Artifact { path: named, source }) => {
                assert_eq!(named, path.join("config.json"));
                assert!(source.to_string().starts_with("version: got 1, "), "{source}");
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(())
}

/// An artifact of the time before `load_subnet.py`, with or without a copy of it that the user made.
#[test]
fn artifact_whose_checksums_name_no_python_loader_loads_with_and_without_one() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    save(&network(&super::config(false))?, &path, &Export::f32())?;
    let loader = fs::read(path.join("load_subnet.py"))?;
    fs::remove_file(path.join("load_subnet.py"))?;
    assert!(Subnet::<VitConfig>::load(&path, test_device()).is_ok(), "deleted");
    renew_checksums(&path)?;
    assert!(Subnet::<VitConfig>::load(&path, test_device()).is_ok(), "never there");
    fs::write(path.join("load_subnet.py"), loader)?;
    assert!(Subnet::<VitConfig>::load(&path, test_device()).is_ok(), "added");
    Ok(())
}
