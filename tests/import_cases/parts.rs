//! Tensors that the network has no variable for.

use super::family::folder;
use super::{data, into, tiny, HEADS};
use crate::assert_refused;
use crate::support::TestResult;
use once_for_both::import::{self, ImportError, ImportOptions};
use once_for_both::models::{Architecture, QkvBias, SwinConfig, VitConfig};
use once_for_both::subnet::Subnet;
use once_for_both::supernet::Weights;
use once_for_both::Error;
use tch::{Device, Kind, Tensor};

/// The error of importing a ViT with a further tensor.
fn refusal(name: &str) -> TestResult<(Option<&'static str>, String)> {
    let mut weights = import::read(&data("timm_plain.safetensors"))?;
    weights.insert(name.into(), Tensor::zeros([24], (Kind::Float, Device::Cpu)));
    let error = match into(&weights, &tiny(), &ImportOptions::default()) {
        Err(Error::Import(error)) => error,
        other => panic!("{name}: {other:?}"),
    };
    let text = error.to_string();
    match error {
        ImportError::Unplaced { name: culprit, part } if culprit == name => Ok((part, text)),
        other => panic!("{name}: {other:?}"),
    }
}

/// Skipped, such a tensor would leave another function behind.
#[test]
fn import_of_a_tensor_that_changes_the_function_is_refused_without_advice_to_skip() -> TestResult {
    for (name, words) in [
        ("norm_pre.weight", "pre_norm"),
        ("blocks.0.attn.q_norm.weight", "qk_norm"),
        ("blocks.1.attn.k_norm.bias", "qk_norm"),
        ("blocks.1.attn.norm.weight", "scale_norm"),
        ("fc_norm.weight", "fc_norm"),
        ("reg_token", "register tokens"),
        ("blocks.0.ls1.gamma", "layer_scale"),
        ("blocks.0.gamma_1", "layer_scale"),
        ("attn_pool.q.weight", "pooling by attention"),
        ("blocks.0.attn.q_bias", "qkv_bias"),
        ("blocks.0.attn.qk.weight", "qk_dim"),
        ("blocks.0.attn.v.bias", "qk_dim"),
        ("blocks.2.norm1.weight", "a block"),
    ] {
        let (part, text) = refusal(name)?;
        assert!(part.is_some_and(|part| part.contains(words)), "{name}: {part:?}");
        assert!(!text.contains("skip"), "{text}");
    }
    Ok(())
}

/// A checkpoint of timm is imported first, and turned then.
#[test]
fn import_into_a_network_with_queries_and_keys_apart_is_refused_with_the_conversion() -> TestResult
{
    let mut weights = import::read(&data("timm_plain.safetensors"))?;
    let refused = into(&weights, &tiny().qk_v_apart()?, &ImportOptions::default());
    assert_refused!(refused, Error::Import(ImportError::Unplaced { part: Some(words), .. })
        if words.contains("Subnet::qk_v_apart"));
    weights.retain(|name, _| !name.ends_with(".attn.qkv.bias"));
    let unbiased = VitConfig { qkv_bias: QkvBias::None, ..tiny() };
    let refused = into(&weights, &unbiased.qk_v_apart()?, &ImportOptions::default());
    assert_refused!(refused, Error::Import(ImportError::Unplaced { part: Some(words), .. })
        if words.contains("Subnet::qk_v_apart"));
    Ok(())
}

#[test]
fn inspection_of_weights_with_queries_and_keys_apart_is_refused_with_the_artifact() -> TestResult {
    let weights = import::read(&data("timm_plain.safetensors"))?;
    let config = import::inspect(&weights, Some(3))?;
    let network = Subnet::new(config, &weights, Device::Cpu)?.qk_v_apart()?;
    let refused = import::inspect(network.weights(), None);
    assert_refused!(refused, Error::Import(ImportError::Unplaced { part: Some(words), .. })
        if words.contains("load the artifact"));
    let swin = SwinConfig::uniform(8, &[1], 2).input(8, 3, 2).classes(3);
    let refused = import::inspect_swin(&fresh(&swin.qk_v_apart()?)?);
    assert_refused!(refused, Error::Import(ImportError::Unplaced { part: Some(words), .. })
        if words.contains("load the artifact"));
    Ok(())
}

fn fresh<A: Architecture>(config: &A) -> TestResult<Weights> {
    let shapes = config.variables()?.into_iter();
    let zeros = |(name, shape): (String, Vec<i64>)| {
        (name, Tensor::zeros(&shape[..], (Kind::Float, Device::Cpu)))
    };
    Ok(shapes.map(zeros).collect())
}

#[test]
fn import_of_a_tensor_beside_the_classifier_is_refused_with_the_option_skip() -> TestResult {
    for name in ["predictor.weight", "projector.0.weight"] {
        let (part, text) = refusal(name)?;
        assert_eq!(part, None, "{name}");
        assert!(text.contains("skip"), "{text}");
    }
    Ok(())
}

/// Masked pretraining has a mask token, and MAE's a decoder, which the classifier does not use.
#[test]
fn import_of_a_mask_token_and_a_decoder_reports_them_as_unused_also_with_strict() -> TestResult {
    let mut weights = import::read(&data("timm_plain.safetensors"))?;
    let names = ["decoder_blocks.0.mlp.fc1.weight", "decoder_embed.weight", "mask_token"];
    for name in names {
        weights.insert(name.into(), Tensor::zeros([1, 24], (Kind::Float, Device::Cpu)));
    }
    let strict = ImportOptions { strict: true, ..ImportOptions::default() };
    let report = into(&weights, &tiny(), &strict)?.report;
    assert_eq!((&report.unused[..], &report.skipped[..]), (&names.map(String::from)[..], &[][..]));
    assert!(report.is_exact());
    Ok(())
}

/// In transformers it reads the mean of tokens that the final norm has not seen.
#[test]
fn import_of_a_classifier_of_transformers_clip_is_refused() -> TestResult {
    let path = folder("hf_siglip").join("model.safetensors");
    let mut weights = import::read(&path)?;
    let zeros = Tensor::f_zeros([5, 12], (Kind::Float, Device::Cpu))?;
    weights.insert("classifier.weight".into(), zeros);
    let config = import::inspect(&weights, Some(HEADS))?;
    let refused = into(&weights, &config, &ImportOptions::default());
    let message = refused.map(drop).map_err(|error| error.to_string());
    assert!(message.as_ref().is_err_and(|error| error.contains("a classifier on the mean")));
    Ok(())
}

/// The mask token of pretraining is no part of the network's function.
#[test]
fn strict_import_takes_a_mask_token_and_refuses_a_missing_head() -> TestResult {
    let options = ImportOptions { strict: true, ..ImportOptions::default() };
    let read = |name| import::read(&folder(name).join("model.safetensors"));
    let weights = read("hf_dinov2")?;
    let config = import::inspect(&weights, Some(HEADS))?;
    let report = into(&weights, &config, &options)?.report;
    assert_eq!(report.unused, ["dinov2.embeddings.mask_token"]);
    let backbone = read("hf_dinov2_backbone")?;
    let config = import::inspect(&backbone, Some(HEADS))?;
    assert_refused!(
        into(&backbone, &config, &options),
        Error::Import(ImportError::Strict { name, fate: "missing" }) if name == "head.bias"
    );
    Ok(())
}

/// The error of a further tensor in OpenAI's image tower.
fn clip_refusal(name: &str) -> TestResult<String> {
    let mut weights = import::read(&folder("openai_clip").join("model.safetensors"))?;
    let config = import::inspect(&weights, Some(HEADS))?;
    weights.insert(name.into(), Tensor::zeros([12], (Kind::Float, Device::Cpu)));
    match into(&weights, &config, &ImportOptions::default()) {
        Err(Error::Import(error @ ImportError::Unplaced { .. })) => Ok(error.to_string()),
        other => Err(format!("{name}: {other:?}").into()),
    }
}

#[test]
fn import_of_a_further_part_of_a_clip_tower_is_refused_without_advice_to_skip() -> TestResult {
    for (name, words) in [
        ("visual.attn_pool.query", "pooling by attention"),
        ("visual.attn_pool_contrastive.query", "pooling by attention"),
        ("visual.transformer.resblocks.0.ls_1.gamma", "layer_scale"),
        ("visual.transformer.resblocks.0.attn.ln.weight", "image tower"),
        ("visual.patchnorm_pre_ln.weight", "image tower"),
    ] {
        let text = clip_refusal(name)?;
        assert!(text.contains(words) && !text.contains("skip"), "{text}");
    }
    Ok(())
}

/// Left out, the classifier of a fine-tuned network would be missing without notice.
#[test]
fn import_of_a_clip_tower_with_a_classifier_is_refused_and_one_with_a_text_tower_is_exact(
) -> TestResult {
    for name in ["fc.weight", "classification_head.weight"] {
        let text = clip_refusal(name)?;
        assert!(text.contains(name) && text.contains("skip"), "{text}");
    }
    let mut weights = import::read(&folder("openai_clip").join("model.safetensors"))?;
    let config = import::inspect(&weights, Some(HEADS))?;
    let strict = ImportOptions { strict: true, ..ImportOptions::default() };
    let text = [
        "transformer.resblocks.0.ln_1.weight",
        "token_embedding.weight",
        "positional_embedding",
        "ln_final.bias",
        "text_projection",
        "logit_scale",
        "logit_bias",
        "attn_mask",
        "text.text_projection.weight",
        "text_decoder.ln_final.weight",
        "input_resolution",
        "context_length",
        "vocab_size",
    ];
    for name in text {
        weights.insert(name.into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
    }
    let report = into(&weights, &config, &strict)?.report;
    assert!(text.iter().all(|name| report.unused.contains(&(*name).to_owned())), "{report:?}");
    weights.insert("fc.weight".into(), Tensor::zeros([12], (Kind::Float, Device::Cpu)));
    let refused = into(&weights, &config, &strict);
    assert_refused!(refused, Error::Import(ImportError::Unplaced { name, .. }) if name == "fc.weight");
    Ok(())
}

#[test]
fn inspect_of_an_openclip_tower_with_layer_scale_recognises_it() -> TestResult {
    let mut weights = import::read(&folder("openai_clip").join("model.safetensors"))?;
    for (block, scale) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        let name = format!("visual.transformer.resblocks.{block}.ls_{scale}.gamma");
        weights.insert(name, Tensor::ones([12], (Kind::Float, Device::Cpu)));
    }
    let config = import::inspect(&weights, Some(HEADS))?;
    assert!(config.layer_scale.is_some());
    let report = into(&weights, &config, &ImportOptions::default())?.report;
    assert!(
        report.loaded.contains(&"blocks.1.ls2.gamma".into()) && report.is_exact(),
        "{report:?}"
    );
    Ok(())
}
