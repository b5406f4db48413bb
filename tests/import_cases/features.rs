//! Networks of features from checkpoints of classifiers, of backbones and of SigLIP's tower.

use super::super::support::{tensor, test_device, TestResult, Tolerance};
use super::family::{folder, plain, SCALE, SHARE};
use super::{alone, data, into, network, tiny, HEADS};
use crate::assert_refused;
use once_for_both::import::{self, ImportError, ImportOptions, ImportReport, KnownNetwork};
use once_for_both::models::{Network, Pooling, VitConfig};
use once_for_both::Error;

fn identity() -> ImportOptions {
    ImportOptions { identity_head: true, ..ImportOptions::default() }
}

#[test]
fn backbone_as_a_network_of_features_gives_those_of_every_token() -> TestResult {
    let own = folder("hf_dinov2_backbone");
    let path = own.join("model.safetensors");
    let vit = plain().layer_scale(SCALE);
    let load = |vit: &VitConfig| {
        let _alone = alone();
        import::load(&path, vit, &identity())
    };
    let features = vit.clone().features()?;
    let import = load(&features)?;
    assert!(import.report.missing.is_empty(), "{:?}", import.report);
    assert!(import.report.computed.iter().any(|name| name == "head.weight"), "{:?}", import.report);
    let answers = import::read(&own.join("expected.safetensors"))?;
    let images = tensor(&answers, "images")?.f_to_device(test_device())?;
    let network = network(&features, &import.weights)?;
    let (found, answer) =
        (network.forward(&images, false)?.prediction()?, tensor(&answers, "features")?);
    Tolerance::of_scale(SHARE, answer)?.check("features", &found, answer)?;
    // Without a bias, too.
    let import = load(&VitConfig { head_bias: false, ..features })?;
    assert!(!import.weights.contains_key("head.bias"));
    assert_refused!(load(&vit), Error::Invalid { ref name, ref actual, .. }
        if name == "head.weight" && actual == "[5, 12]");
    Ok(())
}

/// Imports a network of features, and compares it with the features of the network that was saved.
fn check(name: &str) -> TestResult<ImportReport> {
    let path = folder(name).join("model.safetensors");
    let weights = import::read(&path)?;
    let found = {
        let _alone = alone();
        import::inspect_file(&path, &identity(), Some(HEADS))?.network
    };
    let KnownNetwork::Vit(saved) = found else { return Err("no ViT".into()) };
    let answers = import::read(&folder(name).join("expected.safetensors"))?;
    let images = tensor(&answers, "images")?.f_to_device(test_device())?;
    let whole = into(&weights, &saved, &ImportOptions::default())?.weights;
    let answer = network(&saved, &whole)?.features(&images, None, false)?;
    let features = saved.features()?;
    let import = into(&weights, &features, &identity())?;
    let found = network(&features, &import.weights)?.forward(&images, false)?.prediction()?;
    Tolerance::of_scale(SHARE, &answer)?.check(name, &found, &answer)?;
    Ok(import.report)
}

#[test]
fn siglip_as_a_network_of_features_leaves_out_its_pooling() -> TestResult {
    let own = check("hf_siglip")?.skipped;
    assert_eq!(own.len(), 11, "{own:?}");
    assert!(own.iter().all(|name| name.starts_with("head.")), "{own:?}");
    let timm = check("timm_siglip")?.skipped;
    let heads = timm.iter().filter(|name| name.starts_with("head.")).count();
    assert_eq!((heads, timm.len()), (2, 2 + 13), "{timm:?}");
    assert!(timm[..13].iter().all(|name| name.starts_with("attn_pool.")), "{timm:?}");
    Ok(())
}

/// DINOv2's linear head reads two columns a channel.
#[test]
fn head_of_class_token_and_mean_is_left_out_for_the_identity() -> TestResult {
    let report = check("hf_dinov2")?;
    assert_eq!((report.skipped.len(), report.unused.len()), (2, 1), "{report:?}");
    assert!(report.skipped.contains(&"classifier.weight".into()), "{report:?}");
    assert!(report.replaced.is_empty(), "{report:?}");
    Ok(())
}

#[test]
fn strict_import_of_features_takes_a_backbone_and_refuses_a_classifier() -> TestResult {
    let strict = ImportOptions { strict: true, ..identity() };
    let mut weights = import::read(&data("timm_plain.safetensors"))?;
    let features = tiny().features()?;
    assert_refused!(into(&weights, &features, &strict), Error::Import(ImportError::Strict { ref name, fate: "skipped" })
        if name == "head.bias");
    weights.retain(|name, _| !name.starts_with("head."));
    assert!(into(&weights, &features, &strict)?.report.is_exact());
    let initialised = ImportOptions { identity_head: false, ..strict };
    assert!(into(&weights, &features, &initialised).is_err());
    Ok(())
}

#[test]
fn features_behind_a_norm_of_the_mean_alone_are_refused_with_the_reason() -> TestResult {
    let averaged = plain().pooling(Pooling::MeanNorm);
    assert_refused!(averaged.features(), Error::Invalid { ref name, ref expected, .. }
        if name == "pooling" && expected.contains("before it was fine-tuned"));
    let weights = import::read(&folder("timm_avg").join("model.safetensors"))?;
    let refused = into(&weights, &plain().features()?, &identity());
    assert_refused!(refused, Error::Import(ImportError::Unplaced { part: Some(words), .. })
        if words.contains("none of features of tokens"));
    Ok(())
}
