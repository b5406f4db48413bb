//! What an inspection says of a checkpoint file.

use super::archives::{entries, Archive};
use super::{alone, data, swin, tiny, HEADS};
use crate::support::TestResult;
use once_for_both::import::{self, Container, ImportOptions, Inspection, KnownNetwork, Naming};
use once_for_both::models::VitConfig;
use once_for_both::Result;
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
