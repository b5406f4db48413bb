//! Artifacts that tests/python runs, with their images and expected logits.

use super::{images, kinds, network, save, swins, PRECISIONS};
use crate::support::{tensor, test_device, Tensors, TestResult};
use once_for_both::import::{self, ImportOptions};
use once_for_both::models::{Architecture, BlockConfig, SwinConfig, VitConfig};
use once_for_both::subnet::{Export, Precision, Subnet};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

#[test]
#[ignore = "run by scripts/python-tests, which then runs the written files in Python"]
fn python_cases_are_written() -> TestResult {
    let root = PathBuf::from(std::env::var("OFB_PYTHON_CASES")?);
    let (mut cases, mut shapes) = (Vec::new(), Vec::new());
    for (at, (kind, config)) in kinds().into_iter().enumerate() {
        // Writing takes most of the time: the options of the family in f32 alone, but for rotary positions,
        // which are computed in f32.
        let all = at < 4 || config.rope.is_some();
        let precisions = if all { &PRECISIONS[..] } else { &[Precision::F32] };
        cases.extend(in_precisions(&root, kind, &config, precisions)?);
        shapes.extend(with_shapes(kind, &config)?);
    }
    for (kind, config) in swins() {
        cases.extend(in_precisions(&root, kind, &config, &PRECISIONS)?);
        shapes.extend(with_shapes(kind, &config)?);
    }
    cases.push(swin_of_timm(&root)?);
    for (file, entries) in [("cases.json", cases), ("shapes.json", shapes)] {
        std::fs::write(root.join(file), serde_json::to_vec_pretty(&entries)?)?;
    }
    Ok(())
}

/// A Swin of timm in padded windows, imported and saved, with the images and logits that timm stored
/// (tests/data/import/make_swin.py).
fn swin_of_timm(root: &Path) -> TestResult<Value> {
    let mut config = SwinConfig::uniform(8, &[2, 2, 2], 2).input(18, 3, 2).window(4).classes(5);
    for own in &mut config.stages {
        let (heads, width) = (own.embed_dim / 4, own.embed_dim);
        own.blocks = vec![BlockConfig::new(heads, 4, 2 * width); 2];
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/import/swin/odd.safetensors");
    let (weights, golden): (Tensors, Tensors) = import::read(Path::new(file))?
        .into_iter()
        .partition(|(name, _)| !name.starts_with("golden."));
    let import = import::into(&weights, &config, &ImportOptions::default())?;
    let (name, export) = ("swin-timm-f32", Export::f32().torchscript().onnx());
    let subnet = Subnet::new(config, &import.weights, test_device())?;
    save(&subnet, &root.join(name), &export)?;
    let (images, logits) = (tensor(&golden, "golden.images")?, tensor(&golden, "golden.logits")?);
    entry(root, name, images, logits)
}

/// Shapes of images, with that of their logits, or null where the subnet refuses them.
fn with_shapes<A: Architecture>(kind: &str, config: &A) -> TestResult<Vec<Value>> {
    let (subnet, artifact) = (network(config)?, format!("{kind}-f32"));
    let shapes = super::exports::shapes(config.graph()?.input()).into_iter();
    let entry = |images: Vec<i64>| -> TestResult<Value> {
        let logits = subnet.predict(&Tensor::f_zeros(&images, (Kind::Float, test_device()))?);
        let logits = logits.ok().map(|logits| logits.size());
        Ok(json!({ "artifact": artifact, "images": images, "logits": logits }))
    };
    shapes.map(entry).collect()
}

fn in_precisions<A: Architecture>(
    root: &Path,
    kind: &str,
    config: &A,
    precisions: &[Precision],
) -> TestResult<Vec<Value>> {
    let mut cases = Vec::new();
    for &precision in precisions {
        let name = format!("{kind}-{}", precision.name());
        let export = Export::in_precision(precision).torchscript().onnx();
        let folder = root.join(&name);
        save(&network(config)?, &folder, &export)?;
        let subnet = Subnet::<A>::load(&folder, test_device())?;
        // Not the batch size of the verification, which is 3.
        for batch in [2, 5] {
            cases.push(case(root, &name, &subnet, batch)?);
        }
    }
    Ok(cases)
}

fn case<A: Architecture>(
    root: &Path,
    artifact: &str,
    subnet: &Subnet<A>,
    batch: i64,
) -> TestResult<Value> {
    let images = images(subnet.architecture(), batch)?;
    entry(root, artifact, &images, &subnet.predict(&images)?)
}

/// Writes images and their logits as little-endian f32, and returns the entry of `cases.json`.
fn entry(root: &Path, artifact: &str, images: &Tensor, logits: &Tensor) -> TestResult<Value> {
    let batch = images.size()[0];
    let write = |what: &str, tensor: &Tensor| -> TestResult<Value> {
        let numbers: Vec<f32> = Vec::try_from(tensor.f_flatten(0, -1)?)?;
        let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
        let file = format!("{artifact}-{batch}.{what}");
        std::fs::write(root.join(&file), bytes)?;
        Ok(json!({ "file": file, "shape": tensor.size() }))
    };
    let (images, logits) = (write("images", images)?, write("logits", logits)?);
    Ok(json!({ "artifact": artifact, "batch": batch, "images": images, "logits": logits }))
}

/// DeiT-S, dense and with half of the MACs: three of six heads, and as many hidden neurons as channels.
#[test]
#[ignore = "for tests/python/onnx_latency.py, which measures them: docs/benchmarks.md"]
fn deit_small_is_written_dense_and_at_half_its_macs() -> TestResult {
    let root = PathBuf::from(std::env::var("OFB_PYTHON_CASES")?);
    let dense = VitConfig::deit_small();
    let half = VitConfig { blocks: vec![BlockConfig::new(3, 64, 768); 12], ..dense.clone() };
    for (name, config) in [("deit_small", dense), ("deit_small_half", half)] {
        save(&network(&config)?, &root.join(name), &Export::f32().onnx())?;
    }
    Ok(())
}
