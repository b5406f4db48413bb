//! Every kind of checkpoint computes what the library that wrote it computed.

use super::{data, forward, load, tiny, HEADS};
use crate::support::{tensor, TestResult, Tolerance};
use once_for_both::import::{self, Import, ImportOptions, Naming};
use once_for_both::models::{Logits, VitConfig};
use tch::Tensor;

/// Share of the largest logit by which any of them may differ.
const SHARE: f64 = 1e-5;

fn strict() -> ImportOptions {
    ImportOptions { strict: true, ..ImportOptions::default() }
}

/// The defaults of transformers.
fn with_transformers_eps(config: VitConfig) -> VitConfig {
    VitConfig { norm_eps: 1e-12, ..config }
}

/// Inspects, loads and runs `file`; compares with what is in `NAME.expected.safetensors`.
fn check(
    file: &str,
    expected: &VitConfig,
    options: &ImportOptions,
    output: impl Fn(&Logits) -> TestResult<Tensor>,
) -> TestResult<Import> {
    let path = data(file);
    let config = import::inspect(&import::read(&path)?, Some(HEADS))?;
    assert_eq!(config, *expected, "{file}");
    let import = load(&path, &config, options)?;
    let answers = import::read(&path.with_extension("expected.safetensors"))?;
    let logits = forward(&config, &import.weights, tensor(&answers, "images")?)?;
    let expected = tensor(&answers, "logits")?;
    Tolerance::of_scale(SHARE, expected)?.check(file, &output(&logits)?, expected)?;
    Ok(import)
}

fn check_exact(file: &str, expected: &VitConfig, naming: Naming) -> TestResult {
    let import = check(file, expected, &strict(), |logits| Ok(logits.prediction()?))?;
    assert!(import.report.is_exact(), "{file}: {:?}", import.report);
    assert_eq!(import.report.naming, naming, "{file}");
    assert_eq!(import.report.loaded.len(), import.weights.len(), "{file}");
    Ok(())
}

#[test]
fn timm_plain() -> TestResult {
    check_exact("timm_plain.safetensors", &tiny(), Naming::Timm)
}

#[test]
fn timm_distilled() -> TestResult {
    check_exact("timm_distilled.safetensors", &tiny().distilled(), Naming::Timm)
}

#[test]
fn transformers_vit() -> TestResult {
    let config = with_transformers_eps(tiny());
    check_exact("hf_vit.safetensors", &config, Naming::Transformers)
}

#[test]
fn transformers_deit_with_teacher() -> TestResult {
    let config = with_transformers_eps(tiny().distilled());
    check_exact("hf_deit_teacher.safetensors", &config, Naming::Transformers)
}

/// Its distillation token takes part, but only the class token has a head.
#[test]
fn transformers_deit() -> TestResult {
    let config = with_transformers_eps(tiny().distilled());
    let class = |logits: &Logits| Ok(logits.class.shallow_clone());
    let import = check("hf_deit.safetensors", &config, &ImportOptions::default(), class)?;
    assert_eq!(import.report.missing, ["head_dist.bias", "head_dist.weight"]);
    Ok(())
}

/// Beside the model: an optimiser, a scheduler, an `argparse.Namespace`.
#[test]
fn deit_training_checkpoint() -> TestResult {
    check_exact("deit_training.pth", &tiny(), Naming::Timm)
}

/// A bare state dict in f16, with a transposed tensor and two that interleave in one storage.
#[test]
fn half_precision_views() -> TestResult {
    let weights = import::read(&data("half_views.pth"))?;
    assert_eq!(tensor(&weights, "blocks.0.mlp.fc1.weight")?.stride(), [1, 48]);
    assert_eq!(tensor(&weights, "norm.bias")?.stride(), [2]);
    check_exact("half_views.pth", &tiny(), Naming::Timm)
}

/// `nn.Parameter`s in bf16 under `state_dict`, pickled by protocol 4.
#[test]
fn bfloat16_parameters() -> TestResult {
    check_exact("bfloat16_parameters.pth", &tiny(), Naming::Timm)
}
