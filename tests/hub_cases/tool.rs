//! `deit_s` with names on the hub.

use super::{root, server, NAME};
use crate::support::program::program;
use crate::support::TestResult;
use once_for_both::models::{Architecture, VitConfig};
use std::path::Path;
use std::process::{Command, Output};
use tch::{Device, Kind, Tensor};

/// Runs the program in a folder, with the cache in it.
fn deit_s(folder: &Path, endpoint: &str, arguments: &[&str]) -> TestResult<Output> {
    let mut command = Command::new(program("deit_s")?);
    for name in ["HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", folder.join("hf"));
    // A proxy does not know the loopback address.
    command.env("NO_PROXY", "127.0.0.1").env("OMP_NUM_THREADS", "1");
    Ok(command.args(arguments).current_dir(folder).output()?)
}

fn succeeds(output: Output) -> TestResult<String> {
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

/// Weights of the built-in images' network: two blocks of width 32, patches of 7 × 7 pixels.
fn small() -> TestResult<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.safetensors");
    let config = VitConfig::uniform(32, 2, 2).input(28, 1, 7).classes(10);
    let mut tensors = Vec::new();
    for (name, shape) in config.variables()? {
        tensors.push((name, Tensor::f_ones(shape.as_slice(), (Kind::Float, Device::Cpu))?));
    }
    Tensor::write_safetensors(&tensors, &path)?;
    Ok(std::fs::read(path)?)
}

#[test]
fn tool_takes_a_name_on_the_hub_and_keeps_the_path_in_the_cache() -> TestResult {
    let (server, folder) = (server()?, tempfile::tempdir()?);
    let name = format!("hub:{NAME}");
    let found = succeeds(deit_s(folder.path(), &server.endpoint, &["inspect", &name, "--json"])?)?;
    let found: serde_json::Value = serde_json::from_str(&found)?;
    assert_eq!(found["network"]["config"]["blocks"][0]["heads"], 2, "{found}");

    server.change(|own| own.revisions.extend([("small".into(), "cc33".into())]));
    let weights = small()?;
    server.change(|own| drop(own.files.insert("model.safetensors".into(), weights)));
    let name = format!("hub:{NAME}@small");
    let run = [
        &["train", "--weights", &name, "--out", "run", "--device", "cpu", "--steps", "2"][..],
        &["--set", "network.embed_dim=32", "--set", "network.depth=2"],
        &["--set", "network.heads=2", "--set", "network.patch_size=7"],
    ];
    succeeds(deit_s(folder.path(), &server.endpoint, &run.concat())?)?;
    let config = std::fs::read_to_string(folder.path().join("run/config.toml"))?;
    let kept = "hf/hub/models--timm--tiny/snapshots/cc33/model.safetensors\"";
    assert!(
        config.lines().any(|line| line.starts_with("weights = ") && line.ends_with(kept)),
        "{config}"
    );
    // From the cache, without an answer of the server.
    let again = ["--resume", "--weights", &name, "--out", "run", "--device", "cpu"];
    succeeds(deit_s(folder.path(), "http://127.0.0.1:1", &again)?)?;
    Ok(())
}

#[test]
fn tool_without_a_network_says_name_endpoint_and_what_to_do() -> TestResult {
    let folder = tempfile::tempdir()?;
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let endpoint = format!("http://{closed}");
    let name = "hub:timm/deit_small_patch16_224.fb_in1k";
    let output = deit_s(folder.path(), &endpoint, &["eval", "--weights", name])?;
    let text = String::from_utf8(output.stderr)?;
    assert!(!output.status.success());
    for part in [name, &endpoint, "cannot be reached", "give their path"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    Ok(())
}

#[test]
fn path_that_exists_is_no_name_on_the_hub() -> TestResult {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("hub:timm"))?;
    let own = folder.path().join("hub:timm/tiny");
    std::fs::copy(root().join("timm_plain.safetensors"), own)?;
    // Nobody listens at this address.
    let output =
        deit_s(folder.path(), "http://127.0.0.1:1", &["inspect", "hub:timm/tiny", "--heads", "2"])?;
    let text = succeeds(output)?;
    assert!(text.contains("vit"), "{text}");
    Ok(())
}
