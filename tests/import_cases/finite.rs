//! Weights that are not finite numbers in f32.

use super::{data, into, tiny};
use crate::support::TestResult;
use once_for_both::import::{self, ImportError, ImportOptions};
use once_for_both::Error;
use tch::{Kind, Tensor};

/// The error of importing a ViT with this number in one of its weights.
fn refusal(name: &str, number: f64, kind: Kind) -> TestResult<String> {
    let mut weights = import::read(&data("timm_plain.safetensors"))?;
    let mut tensor = weights[name].to_kind(kind).copy();
    let _ = tensor.view([-1]).get(5).fill_(number);
    tensor = tensor.detach();
    weights.insert(name.into(), tensor);
    match into(&weights, &tiny(), &ImportOptions::default()) {
        Err(Error::Import(ImportError::NotFinite { name: culprit, found })) => {
            assert_eq!(culprit, name);
            Ok(found)
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn import_of_a_weight_that_is_not_finite_in_f32_is_refused_by_name() -> TestResult {
    for (number, kind, words) in [
        (f64::NAN, Kind::Float, "NaN"),
        (f64::NAN, Kind::BFloat16, "NaN"),
        (f64::INFINITY, Kind::Half, "infinity"),
        (f64::NEG_INFINITY, Kind::Double, "infinity"),
        (1e300, Kind::Double, "beyond the range of f32"),
        (-4e38, Kind::Double, "beyond the range of f32"),
    ] {
        for name in ["blocks.1.mlp.fc2.weight", "norm.bias"] {
            let found = refusal(name, number, kind)?;
            assert!(found.contains(words), "{number}, {kind:?}: {found}");
        }
    }
    Ok(())
}

/// A position table that is resized, and a patch projection that is summed over its channels.
#[test]
fn import_of_an_adapted_weight_that_is_not_finite_is_refused_by_name() -> TestResult {
    let source = import::read(&data("timm_plain.safetensors"))?;
    for (name, number, config) in [
        ("pos_embed", f32::NAN, tiny().input(48, 3, 8)),
        ("patch_embed.proj.weight", f32::INFINITY, tiny().input(32, 1, 8)),
        ("patch_embed.proj.weight", 3e38, tiny().input(32, 1, 8)),
    ] {
        let mut weights = import::read(&data("timm_plain.safetensors"))?;
        let tensor = Tensor::full_like(&source[name], f64::from(number));
        weights.insert(name.into(), tensor);
        match into(&weights, &config, &ImportOptions::default()) {
            Err(Error::Import(ImportError::NotFinite { name: culprit, .. })) => {
                assert_eq!(culprit, name);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    Ok(())
}

/// A head that is not loaded may hold anything.
#[test]
fn import_with_another_head_ignores_what_the_old_one_holds() -> TestResult {
    let mut weights = import::read(&data("timm_plain.safetensors"))?;
    let nan = Tensor::full_like(&weights["head.weight"], f64::NAN);
    weights.insert("head.weight".into(), nan);
    let import = into(&weights, &tiny().classes(7), &ImportOptions::default())?;
    assert_eq!(import.report.replaced.len(), 2);
    Ok(())
}
