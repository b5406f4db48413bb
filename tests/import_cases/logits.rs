//! Logits of imported networks against those of the library that wrote the checkpoint.

use super::{data, forward, load, tiny, HEADS};
use crate::support::{tensor, TestResult, Tolerance};
use once_for_both::import::{self, Import, ImportOptions, Naming};
use once_for_both::models::{Logits, VitConfig};
use tch::Tensor;

/// Tolerance as a share of the largest logit.
const SHARE: f64 = 1e-5;

fn strict() -> ImportOptions {
    ImportOptions { strict: true, ..ImportOptions::default() }
}

/// The configuration with transformers' default ε.
fn with_transformers_eps(config: VitConfig) -> VitConfig {
    VitConfig { norm_eps: 1e-12, ..config }
}

/// Inspects, loads and runs `file`; compares the logits with those in `NAME.expected.safetensors`.
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
fn import_of_timm_vit_gives_timm_logits() -> TestResult {
    check_exact("timm_plain.safetensors", &tiny(), Naming::Timm)
}

#[test]
fn import_of_timm_distilled_deit_gives_timm_logits() -> TestResult {
    check_exact("timm_distilled.safetensors", &tiny().distilled(), Naming::Timm)
}

#[test]
fn import_of_transformers_vit_gives_its_logits() -> TestResult {
    let config = with_transformers_eps(tiny());
    check_exact("hf_vit.safetensors", &config, Naming::Transformers)
}

#[test]
fn import_of_transformers_deit_with_teacher_gives_its_logits() -> TestResult {
    let config = with_transformers_eps(tiny().distilled());
    check_exact("hf_deit_teacher.safetensors", &config, Naming::Transformers)
}

/// It has a distillation token, but a head on the class token alone.
#[test]
fn import_of_transformers_deit_gives_its_logits_and_a_fresh_distillation_head() -> TestResult {
    let config = with_transformers_eps(tiny().distilled());
    let class = |logits: &Logits| Ok(logits.class.shallow_clone());
    let import = check("hf_deit.safetensors", &config, &ImportOptions::default(), class)?;
    assert_eq!(import.report.missing, ["head_dist.bias", "head_dist.weight"]);
    Ok(())
}

/// Beside the model, the file holds an optimiser, a scheduler and an `argparse.Namespace`.
#[test]
fn import_of_a_deit_training_checkpoint_gives_its_logits() -> TestResult {
    check_exact("deit_training.pth", &tiny(), Naming::Timm)
}

/// A bare state dict in f16, with a transposed tensor and two interleaved in one storage.
#[test]
fn import_of_half_precision_views_gives_the_logits() -> TestResult {
    let weights = import::read(&data("half_views.pth"))?;
    assert_eq!(tensor(&weights, "blocks.0.mlp.fc1.weight")?.stride(), [1, 48]);
    assert_eq!(tensor(&weights, "norm.bias")?.stride(), [2]);
    check_exact("half_views.pth", &tiny(), Naming::Timm)
}

/// `nn.Parameter`s in bf16 under `state_dict`, pickled with protocol 4.
#[test]
fn import_of_bfloat16_parameters_gives_the_logits() -> TestResult {
    check_exact("bfloat16_parameters.pth", &tiny(), Naming::Timm)
}
