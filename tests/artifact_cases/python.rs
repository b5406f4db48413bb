//! Artifacts that tests/python runs, with their images and expected logits.

use super::{images, kinds, network, save, swins, PRECISIONS};
use crate::support::{test_device, TestResult};
use once_for_both::models::{Architecture, BlockConfig, VitConfig};
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
    for (file, entries) in [("cases.json", cases), ("shapes.json", shapes)] {
        std::fs::write(root.join(file), serde_json::to_vec_pretty(&entries)?)?;
    }
    Ok(())
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

/// Writes images and their logits as little-endian f32, and returns the entry of `cases.json`.
fn case<A: Architecture>(
    root: &Path,
    artifact: &str,
    subnet: &Subnet<A>,
    batch: i64,
) -> TestResult<Value> {
    let images = images(subnet.architecture(), batch)?;
    let logits = subnet.predict(&images)?;
    let write = |what: &str, tensor: &Tensor| -> TestResult<Value> {
        let numbers: Vec<f32> = Vec::try_from(tensor.f_flatten(0, -1)?)?;
        let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
        let file = format!("{artifact}-{batch}.{what}");
        std::fs::write(root.join(&file), bytes)?;
        Ok(json!({ "file": file, "shape": tensor.size() }))
    };
    let (images, logits) = (write("images", &images)?, write("logits", &logits)?);
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
