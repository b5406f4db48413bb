//! Prefixes that wrappers of a network put before its names.

use super::{data, into, tiny, HEADS};
use crate::assert_refused;
use crate::support::TestResult;
use once_for_both::import::{self, ImportError, ImportOptions, Naming, Weights};
use once_for_both::models::VitConfig;
use once_for_both::Error;
use tch::{Device, Kind, Tensor};

const TIMM: &str = "timm_plain.safetensors";
const TRANSFORMERS: &str = "hf_vit.safetensors";

fn read(file: &str) -> TestResult<Weights> {
    Ok(import::read(&data(file))?)
}

/// The weights under other names.
fn renamed(weights: &Weights, rename: impl Fn(&str) -> String) -> Weights {
    weights.iter().map(|(name, tensor)| (rename(name), tensor.shallow_clone())).collect()
}

fn prefixed(weights: &Weights, prefix: &str) -> Weights {
    renamed(weights, |name| format!("{prefix}{name}"))
}

fn with_prefix(prefix: &str) -> ImportOptions {
    ImportOptions { prefix: Some(prefix.into()), ..Default::default() }
}

fn scalar() -> Tensor {
    Tensor::zeros([], (Kind::Int64, Device::Cpu))
}

#[test]
fn import_with_a_prefix_of_all_names_strips_and_reports_it() -> TestResult {
    let strict = ImportOptions { strict: true, ..Default::default() };
    for (file, config) in [(TIMM, tiny()), (TRANSFORMERS, VitConfig { norm_eps: 1e-12, ..tiny() })]
    {
        let plain = read(file)?;
        let expected = into(&plain, &config, &strict)?;
        assert_eq!(expected.report.prefix, "");
        for prefix in [
            "module.",
            "_orig_mod.",
            "model.",
            "backbone.",
            "module._orig_mod.",
            "_orig_mod.module.",
            "model.backbone.",
            "student.module.backbone.",
        ] {
            let weights = prefixed(&plain, prefix);
            assert_eq!(import::inspect(&weights, Some(HEADS))?, config, "{prefix}");
            let import = into(&weights, &config, &strict)?;
            assert_eq!(import.report.prefix, prefix, "{file}");
            assert_eq!(import.report.loaded, expected.report.loaded, "{prefix}");
            assert_eq!(import.weights, expected.weights, "{prefix}");
        }
    }
    Ok(())
}

/// `torch.compile` of single layers, FSDP and activation checkpoints.
#[test]
fn import_with_wrappers_inside_names_removes_them() -> TestResult {
    let plain = read(TIMM)?;
    for wrapper in ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"] {
        let inside = renamed(&plain, |name| {
            name.replace("blocks.0.", &format!("blocks.0.{wrapper}."))
                .replace("patch_embed.", &format!("patch_embed.{wrapper}."))
        });
        let import = into(&inside, &tiny(), &ImportOptions::default())?;
        assert!(import.report.is_exact(), "{wrapper}: {:?}", import.report);
        let import = into(&prefixed(&inside, "module."), &tiny(), &ImportOptions::default())?;
        assert_eq!(import.report.prefix, "module.");
    }
    Ok(())
}

/// `torch.optim.swa_utils.AveragedModel` counts its models beside the weights.
#[test]
fn import_of_an_averaged_model_leaves_its_counter_out() -> TestResult {
    let mut weights = prefixed(&read(TIMM)?, "module.");
    weights.insert("n_averaged".into(), scalar());
    let import = into(&weights, &tiny(), &ImportOptions { strict: true, ..Default::default() })?;
    assert_eq!(import.report.prefix, "module.");
    assert_eq!(import.report.computed, ["n_averaged"]);
    Ok(())
}

/// A head outside the backbone would be initialised afresh.
#[test]
fn import_with_a_prefix_of_some_names_is_refused_with_the_names_outside() -> TestResult {
    let mut weights = prefixed(&read(TIMM)?, "backbone.");
    weights.insert("linear.weight".into(), scalar());
    match into(&weights, &tiny(), &ImportOptions::default()) {
        Err(Error::Import(ImportError::Prefix { prefixes, outside })) => {
            assert_eq!(
                (prefixes, outside),
                (vec!["backbone.".into()], vec!["linear.weight".into()])
            );
        }
        other => panic!("{other:?}"),
    }
    let skip = ImportOptions { skip: vec!["linear.".into()], ..Default::default() };
    let import = into(&weights, &tiny(), &skip)?;
    assert_eq!((&*import.report.prefix, import.report.skipped.len()), ("backbone.", 1));
    Ok(())
}

#[test]
fn import_of_student_and_teacher_is_refused_unless_a_prefix_is_chosen() -> TestResult {
    let plain = read(TIMM)?;
    let mut weights = prefixed(&plain, "student.");
    weights.extend(prefixed(&plain, "teacher.model."));
    match into(&weights, &tiny(), &ImportOptions::default()) {
        Err(Error::Import(ImportError::Prefix { prefixes, .. })) => {
            assert_eq!(prefixes, ["student.", "teacher.model."]);
        }
        other => panic!("{other:?}"),
    }
    for prefix in ["teacher.model.", "teacher.model"] {
        let import = into(&weights, &tiny(), &with_prefix(prefix))?;
        assert_eq!(import.report.prefix, "teacher.model.");
        assert_eq!(import.report.skipped.len(), plain.len());
        assert!(import.report.skipped.iter().all(|name| name.starts_with("student.")));
    }
    Ok(())
}

#[test]
fn import_with_a_prefix_on_every_second_name_is_refused_with_the_prefix() -> TestResult {
    let mut at = 0;
    let weights: Weights = read(TIMM)?
        .into_iter()
        .map(|(name, tensor)| {
            at += 1;
            let is_plain = at % 2 == 0 || name == "patch_embed.proj.weight";
            (if is_plain { name } else { format!("module.{name}") }, tensor)
        })
        .collect();
    assert_refused!(
        into(&weights, &tiny(), &ImportOptions::default()),
        Error::Import(ImportError::PrefixOfSome { prefix, inside, outside })
            if prefix == "module."
                && inside.iter().all(|name| name.starts_with("module."))
                && !outside.is_empty()
    );
    Ok(())
}

#[test]
fn import_with_a_prefix_of_many_parts_strips_it() -> TestResult {
    let prefix = "a.".repeat(17);
    let import = into(&prefixed(&read(TIMM)?, &prefix), &tiny(), &ImportOptions::default())?;
    assert_eq!(import.report.prefix, prefix);
    Ok(())
}

#[test]
fn import_error_lists_names_with_commas() -> TestResult {
    let mut weights = prefixed(&read(TIMM)?, "backbone.");
    weights.insert("linear.weight".into(), scalar());
    weights.insert("linear.bias".into(), scalar());
    match into(&weights, &tiny(), &ImportOptions::default()) {
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("linear.bias, linear.weight;"), "{text}");
        }
        Ok(_) => return Err("imported".into()),
    }
    Ok(())
}

#[test]
fn inspection_without_heads_of_another_width_names_the_option() -> TestResult {
    match import::inspect(&read(TIMM)?, None) {
        Err(error) => assert!(error.to_string().contains("--heads"), "{error}"),
        Ok(config) => return Err(format!("{config:?}").into()),
    }
    Ok(())
}

#[test]
fn import_with_a_prefix_of_no_name_is_refused() -> TestResult {
    let plain = read(TIMM)?;
    assert_refused!(
        into(&plain, &tiny(), &with_prefix("module")),
        Error::Import(ImportError::PrefixUnknown { prefix, found, others })
            if prefix == "module." && found.len() == 5 && others == plain.len() - 5
    );
    // The empty prefix is that of all names: nothing is removed.
    let import = into(&plain, &tiny(), &with_prefix(""))?;
    assert_eq!((import.report.naming, &*import.report.prefix), (Naming::Timm, ""));
    assert_refused!(
        into(&prefixed(&plain, "module."), &tiny(), &with_prefix("")),
        Error::Import(ImportError::Naming { recognised: None, .. })
    );
    Ok(())
}

/// Every part of a prefix is tried on all names: their number is limited.
#[test]
fn import_of_a_name_of_a_million_parts_is_refused() {
    let weights = Weights::from([("a.".repeat(1_000_000), scalar())]);
    assert_refused!(
        into(&weights, &tiny(), &ImportOptions::default()),
        Error::Import(ImportError::Naming { .. })
    );
}

#[test]
fn import_report_names_what_the_configuration_assumes() -> TestResult {
    let report = into(&read(TIMM)?, &tiny(), &ImportOptions::default())?.report;
    let value = |property: &str| {
        let assumed = report.assumed.iter().find(|assumed| assumed.property == property);
        assumed.map(|assumed| assumed.value.as_str())
    };
    assert_eq!(value("heads"), Some("3 in every block"));
    assert_eq!(value("attention scale"), Some("1/sqrt(8) in every block"));
    assert_eq!(value("norm_eps"), Some("1e-6"));
    assert_eq!(value("image"), Some("32 x 32 pixels, 4 x 4 patches"));
    for property in ["activation", "pooling", "norms", "rows of qkv", "normalisation of images"] {
        assert!(value(property).is_some(), "{property}");
    }
    Ok(())
}
