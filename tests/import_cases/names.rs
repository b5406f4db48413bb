//! Import of DeiT-S by the names and shapes of timm and transformers.

use super::{alone, data, into, tiny, HEADS};
use crate::support::TestResult;
use once_for_both::import::{self, ImportOptions, Weights};
use once_for_both::models::{Architecture, AttentionPool, Pooling, VitConfig};
use std::collections::BTreeMap;
use tch::{nn, Device, Tensor};

type Shapes = BTreeMap<String, Vec<i64>>;

/// Tensors of these shapes, all views of a single element.
fn weights(shapes: &Shapes) -> TestResult<Weights> {
    let zero = Tensor::from(0f32);
    shapes.iter().map(|(name, shape)| Ok((name.clone(), zero.f_expand(shape, false)?))).collect()
}

/// Unused tensors and missing variables, by the last word of the model's name.
fn exceptions(model: &str) -> (&'static [&'static str], &'static [&'static str]) {
    let pooler = &["pooler.dense.bias", "pooler.dense.weight"];
    match model.rsplit(' ').next() {
        Some("ViTModel") => (pooler, &["head.bias", "head.weight"]),
        Some("DeiTModel") => (
            &["embeddings.mask_token", "pooler.dense.bias", "pooler.dense.weight"],
            &["head.bias", "head.weight", "head_dist.bias", "head_dist.weight"],
        ),
        Some("DeiTForImageClassification") => (&[], &["head_dist.bias", "head_dist.weight"]),
        _ => (&[], &[]),
    }
}

#[test]
fn import_of_deit_small_by_any_naming_loads_every_tensor() -> TestResult {
    let text = std::fs::read_to_string(data("deit_small_keys.json"))?;
    let models: BTreeMap<String, Shapes> = serde_json::from_str(&text)?;
    assert_eq!(models.len(), 9);
    for (model, shapes) in &models {
        let mut expected = VitConfig::deit_small();
        expected.distilled = model.contains("distilled") || model.contains("DeiT");
        expected.norm_eps = if model.starts_with("timm") { 1e-6 } else { 1e-12 };
        let weights = weights(shapes)?;
        let config = import::inspect(&weights, None)?;
        assert_eq!(config, expected, "{model}");

        let import = into(&weights, &config, &ImportOptions::default())?;
        let (report, (unused, missing)) = (&import.report, exceptions(model));
        assert_eq!(report.unused, unused, "{model}");
        assert!(report.skipped.is_empty(), "{model}");
        assert_eq!(report.missing, missing, "{model}");
        assert_eq!((&report.resized[..], &report.replaced[..]), (&[][..], &[][..]), "{model}");
        // Query, key and value are three keys for one variable.
        let loaded = shapes.len() - unused.len();
        let split = if model.starts_with("timm") { 0 } else { 2 * 2 * 12 };
        assert_eq!(report.loaded.len(), loaded - split, "{model}");
    }
    Ok(())
}

/// Tensors of the shapes of a network of equal blocks, all views of a single element.
fn shapes_of(config: &VitConfig) -> TestResult<Weights> {
    let first = VitConfig { blocks: config.blocks[..1].to_vec(), ..config.clone() };
    let mut shapes: Shapes = first.variables()?.into_iter().collect();
    let blocks: Vec<_> = shapes.clone().into_iter().collect();
    for (name, shape) in blocks {
        let Some(layer) = name.strip_prefix("blocks.0.") else { continue };
        let others = 1..config.blocks.len();
        shapes.extend(others.map(|block| (format!("blocks.{block}.{layer}"), shape.clone())));
    }
    weights(&shapes)
}

#[test]
fn inspect_without_heads_takes_those_of_the_published_network_of_the_same_sizes() -> TestResult {
    let pooled = |vit: VitConfig| VitConfig {
        class_token: false,
        ..vit.pooling(Pooling::Attention(AttentionPool::new(1152, 16, 4304)))
    };
    let mut so400m = pooled(VitConfig::uniform(1152, 27, 16));
    so400m.blocks.iter_mut().for_each(|block| block.hidden_dim = 4304);
    let dinov2 = VitConfig::uniform(1536, 40, 24).layer_scale(1e-5);
    let uni2 = VitConfig::uniform(1536, 24, 24).layer_scale(1e-5);
    let others = [(1280, 32, 16), (1408, 40, 16), (1536, 40, 16)]
        .map(|(embed_dim, depth, heads)| VitConfig::uniform(embed_dim, depth, heads));
    for config in [so400m, dinov2, uni2].into_iter().chain(others) {
        assert_eq!(import::inspect(&shapes_of(&config)?, None)?, config);
    }
    Ok(())
}

#[test]
fn inspect_without_heads_of_unpublished_sizes_is_refused_with_the_option() -> TestResult {
    for (embed_dim, depth) in [(1280, 16), (1536, 24), (2048, 24), (64, 6)] {
        let weights = shapes_of(&VitConfig::uniform(embed_dim, depth, 1))?;
        let message = import::inspect(&weights, None).map_err(|error| error.to_string());
        assert!(message.as_ref().is_err_and(|error| error.contains("--heads")), "{message:?}");
        assert_eq!(import::inspect(&weights, Some(2))?.blocks[0].heads, 2);
    }
    Ok(())
}

#[test]
fn inspect_of_a_vit_with_layer_scale_recognises_it() -> TestResult {
    let config = tiny().layer_scale(1e-5);
    let store = nn::VarStore::new(Device::Cpu);
    {
        let _alone = alone();
        config.build(&store.root())?;
    }
    let weights: Weights = store.variables().into_iter().collect();
    assert_eq!(import::inspect(&weights, Some(HEADS))?, config);
    assert!(into(&weights, &config, &ImportOptions::default())?.report.is_exact());
    Ok(())
}
