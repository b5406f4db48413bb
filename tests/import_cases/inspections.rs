//! What an inspection says of a checkpoint file.

use super::archives::{entries, Archive};
use super::family::{folder, plain};
use super::{alone, data, swin, tiny, HEADS};
use crate::support::TestResult;
use once_for_both::import::{
    self, Container, ImportOptions, Inspection, KnownNetwork, KnownProperties, Naming,
};
use once_for_both::models::{Activation, PositionEmbedding, VitConfig};
use once_for_both::{Error, Result};
use std::path::Path;

fn inspect(path: &Path, heads: Option<i64>) -> Result<Inspection> {
    let _alone = alone();
    import::inspect_file(path, &ImportOptions::default(), heads)
}

#[test]
fn inspection_of_every_format_names_network_naming_and_container() -> TestResult {
    let transformers = VitConfig { norm_eps: 1e-12, ..tiny() };
    for (file, config, naming, container, entry) in [
        ("timm_plain.safetensors", tiny(), Naming::Timm, Container::Safetensors, None),
        ("hf_vit.safetensors", transformers, Naming::Transformers, Container::Safetensors, None),
        ("deit_training.pth", tiny(), Naming::Timm, Container::TorchArchive, Some("model")),
        ("half_views.pth", tiny(), Naming::Timm, Container::TorchArchive, None),
    ] {
        let inspection = inspect(&data(file), Some(HEADS))?;
        assert_eq!(inspection.network, KnownNetwork::Vit(config.clone()), "{file}");
        let source = inspection.report.source.as_ref().ok_or("no source")?;
        assert_eq!((source.container, source.entry.as_deref()), (container, entry), "{file}");
        assert_eq!(source.files, [file]);
        assert_eq!(inspection.report.naming, naming, "{file}");
        // As the import with that configuration.
        let _alone = alone();
        let import = import::load(&data(file), &config, &ImportOptions::default())?;
        let mut expected = import.report;
        let heads = expected.assumed.iter_mut().find(|own| own.property == "heads");
        heads.ok_or("no heads")?.source = Some("the option heads".into());
        assert_eq!(expected, inspection.report, "{file}");
    }
    Ok(())
}

#[test]
fn inspection_counts_tensors_and_elements_by_type() -> TestResult {
    let inspection = inspect(&data("half_views.pth"), Some(HEADS))?;
    let weights = import::read(&data("half_views.pth"))?;
    let elements: usize = weights.values().map(tch::Tensor::numel).sum();
    assert_eq!((inspection.tensors, inspection.elements), (weights.len(), elements as u64));
    assert_eq!(inspection.types.into_iter().collect::<Vec<_>>(), [("Half".into(), weights.len())]);
    Ok(())
}

#[test]
fn inspection_of_a_swin_derives_its_configuration() -> TestResult {
    for (file, naming) in [
        ("timm_swin.safetensors", Naming::Timm),
        ("hf_swin.safetensors", Naming::Transformers),
        ("original_swin.pth", Naming::OriginalSwin),
    ] {
        let inspection = inspect(&data(file), None)?;
        assert_eq!(inspection.network, KnownNetwork::Swin(swin::tiny()), "{file}");
        assert_eq!(inspection.report.naming, naming, "{file}");
        assert!(inspection.report.is_exact(), "{file}");
        let assumed = &inspection.report.assumed;
        assert!(assumed.iter().any(|assumed| assumed.property == "image"), "{assumed:?}");
        // The table of position biases shows them.
        assert!(assumed.iter().all(|assumed| assumed.property != "heads"), "{assumed:?}");
    }
    Ok(())
}

#[test]
fn inspection_says_which_properties_were_assumed() -> TestResult {
    let assumed = inspect(&data("timm_plain.safetensors"), Some(HEADS))?.report.assumed;
    for property in ["heads", "activation", "pooling", "image", "norm_eps"] {
        assert!(assumed.iter().any(|assumed| assumed.property == property), "{property}");
    }
    Ok(())
}

#[test]
fn inspection_through_json_is_unchanged() -> TestResult {
    for file in ["timm_plain.safetensors", "timm_swin.safetensors", "deit_training.pth"] {
        let inspection = inspect(&data(file), Some(HEADS))?;
        let json = serde_json::to_string(&inspection)?;
        assert_eq!(serde_json::from_str::<Inspection>(&json)?, inspection, "{file}");
    }
    Ok(())
}

/// It refuses what the import refuses.
#[test]
fn inspection_of_what_the_import_refuses_is_refused() -> TestResult {
    for file in ["foreign_inside.pth", "whole_module.pth", "legacy.pth", "adapted.safetensors"] {
        assert!(inspect(&data(file), Some(HEADS)).is_err(), "{file}");
    }
    let parts = entries(&data("deit_training.pth"))?;
    let pickle = parts.iter().find(|(name, _)| name == "data.pkl").ok_or("no pickle")?;
    let archive = Archive::new(&pickle.1, &[])?;
    assert!(inspect(&archive.path(), Some(HEADS)).is_err());
    Ok(())
}

/// A copy of a file of `make_family.py` with this configuration beside it.
fn with_config(name: &str, file: &str, json: &str) -> TestResult<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let weights = data("family").join(name).join("model.safetensors");
    std::fs::copy(weights, folder.path().join("model.safetensors"))?;
    std::fs::write(folder.path().join(file), json)?;
    Ok(folder)
}

/// OpenCLIP's own models have exact GELU unless `quick_gelu` is set, and heads of any width.
#[test]
fn inspection_of_an_openclip_tower_takes_activation_and_heads_of_its_configuration() -> TestResult {
    let quick =
        r#"{"model_cfg": {"quick_gelu": true, "vision_cfg": {"width": 12, "head_width": 4}}}"#;
    let exact = r#"{"model_cfg": {"vision_cfg": {"width": 12, "head_width": 6}}}"#;
    let tanh = r#"{"model_cfg": {"vision_cfg": {"width": 12, "head_width": 2,
        "act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-6}}}}"#;
    for (json, activation, heads, norm_eps) in [
        (quick, Activation::QuickGelu, 3, 1e-5),
        (exact, Activation::Gelu, 2, 1e-5),
        (tanh, Activation::GeluTanh, 6, 1e-6),
    ] {
        let folder = with_config("openai_clip", "open_clip_config.json", json)?;
        let found = inspect(&folder.path().join("model.safetensors"), None)?;
        let KnownNetwork::Vit(config) = found.network else { panic!("not a ViT") };
        let actual = (config.activation, config.blocks[0].heads, config.norm_eps);
        assert_eq!(actual, (activation, heads, norm_eps), "{json}");
        for property in ["activation", "heads"] {
            let own = found.report.assumed.iter().find(|own| own.property == property);
            let source = own.ok_or(property)?.source.as_deref();
            assert_eq!(source, Some("open_clip_config.json"), "{json}: {property}");
        }
    }
    Ok(())
}

#[test]
fn inspection_of_an_openclip_tower_with_another_pooling_is_refused_by_the_option() -> TestResult {
    for (option, options) in [
        ("final_ln_after_pool", r#""pool_type": "avg", "final_ln_after_pool": true"#),
        ("attentional_pool", r#""attentional_pool": true"#),
        ("attentional_pool", r#""attentional_pool": "parallel""#),
    ] {
        let json = format!(
            r#"{{"model_cfg": {{"vision_cfg": {{"width": 12, "head_width": 4, {options}}}}}}}"#
        );
        let folder = with_config("openai_clip", "open_clip_config.json", &json)?;
        let refused = inspect(&folder.path().join("model.safetensors"), None);
        let message = refused.map(|found| found.network).map_err(|error| error.to_string());
        let expected = format!("{option} in open_clip_config.json: got true");
        assert!(message.as_ref().is_err_and(|error| error.contains(&expected)), "{message:?}");
    }
    Ok(())
}

/// All of them make the tensors of a mean with a norm of its own.
#[test]
fn inspection_of_a_vit_whose_configuration_says_another_pooling_is_refused() -> TestResult {
    let expected = |found| format!("global_pool in config.json: got {found}, expected ");
    for found in ["max", "avgmax", "token"] {
        let json = format!(r#"{{"num_heads": 3, "global_pool": "{found}"}}"#);
        let folder = with_config("timm_avg", "config.json", &json)?;
        let refused = inspect(&folder.path().join("model.safetensors"), None);
        let message = refused.map(|found| found.network).map_err(|error| error.to_string());
        assert!(
            message.as_ref().is_err_and(|error| error.contains(&expected(found))),
            "{message:?}"
        );
    }
    let mean = with_config("timm_avg", "config.json", r#"{"num_heads": 3, "global_pool": "avg"}"#)?;
    assert!(inspect(&mean.path().join("model.safetensors"), None).is_ok());
    Ok(())
}

/// Its tensors are those of a ViT: the import into a given configuration refuses it, too.
#[test]
fn import_of_an_architecture_that_computes_something_else_is_refused() -> TestResult {
    let timm = r#"{"architecture": "vit_base_patch16_rpn_224"}"#;
    let open_clip =
        r#"{"model_cfg": {"vision_cfg": {"timm_model_name": "vit_base_patch16_rpn_224"}}}"#;
    for (file, json) in [("config.json", timm), ("open_clip_config.json", open_clip)] {
        let folder = with_config("timm_deit3", file, json)?;
        let path = folder.path().join("model.safetensors");
        let _alone = alone();
        let refused = import::load(&path, &tiny(), &ImportOptions::default());
        let message = refused.map(drop).map_err(|error| error.to_string());
        let expected = "vit_base_patch16_rpn_224, which has norms after attention and MLP";
        assert!(
            message.as_ref().is_err_and(|error| error.contains(expected)),
            "{file}: {message:?}"
        );
    }
    Ok(())
}

#[test]
fn inspection_of_a_gated_mlp_with_another_activation_than_silu_is_refused() -> TestResult {
    let copied = tempfile::tempdir()?;
    let path = copied.path().join("model.safetensors");
    std::fs::copy(folder("hf_dinov3_plus").join("model.safetensors"), &path)?;
    let json = r#"{"num_attention_heads": 3, "hidden_act": "gelu", "image_size": 12}"#;
    std::fs::write(copied.path().join("config.json"), json)?;
    let refused = import::inspect_file(&path, &ImportOptions::default(), None);
    let message = refused.map(|found| found.network).map_err(|error| error.to_string());
    let expected = "activation of a gated MLP: got GELU, exact, expected SiLU";
    assert!(message.as_ref().is_err_and(|error| error.contains(expected)), "{message:?}");
    Ok(())
}

/// SiLU is the activation of a gated MLP alone.
#[test]
fn inspection_of_an_mlp_without_a_gate_whose_configuration_says_silu_is_refused() -> TestResult {
    let json = r#"{"num_attention_heads": 3, "hidden_act": "silu", "image_size": 12}"#;
    let folder = with_config("timm_deit3", "config.json", json)?;
    let refused = inspect(&folder.path().join("model.safetensors"), None);
    let message = refused.map(|found| found.network).map_err(|error| error.to_string());
    let expected = "activation of an MLP without a gate: got SiLU, expected GELU";
    assert!(message.as_ref().is_err_and(|error| error.contains(expected)), "{message:?}");
    let gated = with_config("hf_dinov3_plus", "config.json", json)?;
    assert!(inspect(&gated.path().join("model.safetensors"), None).is_ok());
    Ok(())
}

/// Its blocks have sizes and heads of their own, which the configuration beside it says.
#[test]
fn inspection_of_the_weights_inside_an_artifact_is_refused_with_its_folder() -> TestResult {
    let folder = with_config("timm_deit3", "config.json", r#"{"format": "once-for-both/subnet"}"#)?;
    let path = folder.path().join("model.safetensors");
    let message = inspect(&path, Some(HEADS)).map(drop).map_err(|error| error.to_string());
    assert!(message.is_err());
    let Err(Error::Checkpoint { path: named, source }) = KnownProperties::beside(&path) else {
        return Err("not refused".into());
    };
    assert_eq!(named, path);
    let text = source.to_string();
    assert!(
        text.contains("an artifact of this crate") && text.contains("give its folder"),
        "{text}"
    );
    // With a configuration that is given, nothing is guessed.
    let config = plain().layer_scale(1e-5);
    let config = VitConfig { positions: PositionEmbedding::Patches, ..config };
    let _alone = alone();
    assert!(import::load(&path, &config, &ImportOptions::default())?.report.is_exact());
    Ok(())
}
