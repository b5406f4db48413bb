//! A `VitConfig` with LayerScale and the head of DINOv2: search, pruning, cost, serialisation.

use super::Batches;
use crate::support::tiny_run::{alone, fade_out_options, options};
use crate::support::{test_device, TestResult};
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{
    Activation, Architecture, AttentionPool, Mlp, Norm, Pooling, PositionEmbedding, QkvBias, Rope,
    VitConfig,
};
use once_for_both::search::{Event, Search, SearchOptions};
use once_for_both::{Error, Result};
use tch::nn;

fn vit() -> VitConfig {
    let vit = VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(5);
    vit.layer_scale(0.5).pooling(Pooling::ClassAndMean)
}

/// ViTs that have every other option between them: CLIP's tower, DeiT III with registers and average
/// pooling, one of RMSNorm and SwiGLU, one of rotary positions, and SigLIP.
fn of_the_family() -> [VitConfig; 5] {
    let plain = VitConfig::uniform(32, 1, 4).input(16, 3, 4).classes(5);
    let clip = VitConfig {
        pre_norm: true,
        patch_bias: false,
        head_bias: false,
        activation: Activation::QuickGelu,
        ..plain.clone()
    };
    let average = VitConfig {
        class_token: false,
        registers: 2,
        positions: PositionEmbedding::Patches,
        qkv_bias: QkvBias::QueryValue,
        qk_norm: Some(Norm::Layer),
        ..plain.clone().pooling(Pooling::MeanNorm)
    };
    let gated = VitConfig {
        norm: Norm::Rms,
        mlp: Mlp::SwiGlu,
        qkv_bias: QkvBias::None,
        pre_norm: true,
        ..plain.clone().pooling(Pooling::Mean)
    };
    let dino = VitConfig {
        rope: Some(Rope::Normalised { base: 100.0 }),
        positions: PositionEmbedding::None,
        registers: 1,
        ..plain.clone()
    };
    let pool = AttentionPool::new(32, 4, 64);
    let siglip =
        VitConfig { class_token: false, ..plain.clone().pooling(Pooling::Attention(pool)) };
    [clip, average, gated, dino, siglip]
}

#[test]
fn search_of_a_vit_with_layer_scale_and_pooled_head_prunes_exactly() -> TestResult {
    [options(), fade_out_options()]
        .into_iter()
        .try_for_each(|options| check_search(&vit(), options))
}

#[test]
fn search_of_vits_with_every_option_prunes_exactly() -> TestResult {
    of_the_family().iter().try_for_each(|vit| check_search(vit, fade_out_options()))
}

fn check_search(vit: &VitConfig, options: SearchOptions) -> TestResult {
    let _alone = alone();
    let batches = Batches { count: 6, side: 16, classes: 5 };
    let builder = Search::of(vit.clone()).budget(Budget::macs_share(0.5)).options(options);
    let mut search = builder.device(test_device()).build()?;
    let mut prunings = 0;
    let mut check = |event: &Event| {
        if let Event::Pruned(pruned) = event {
            prunings += 1;
            assert!(pruned.exact_difference <= 1e-5 * pruned.logit_scale);
        }
        Ok(())
    };
    while !search.is_done() {
        search.step(&[batches.at(search.steps_done())?], &mut check)?;
    }
    assert!(prunings > 0);
    let subnet = search.extract(&batches.at(50)?.images)?;
    subnet.verification.check()?;
    assert!(subnet.macs()? <= search.limits()[0].limit);
    Ok(())
}

#[test]
fn cost_model_of_a_vit_with_layer_scale_counts_all_parameters() -> TestResult {
    let _alone = alone();
    let store = nn::VarStore::new(test_device());
    vit().build(&store.root())?;
    let variables = store.variables();
    let count: usize = variables.values().map(|variable| variable.numel()).sum();
    assert_eq!(vit().cost_model().dense_cost(Metric::Params)?, count as f64);
    Ok(())
}

#[test]
fn vit_config_without_layer_scale_and_pooling_in_json_gets_the_defaults() -> TestResult {
    let mut json = serde_json::to_value(VitConfig::uniform(32, 2, 4))?;
    let fields = json.as_object_mut().ok_or("an object")?;
    assert!(fields.remove("layer_scale").is_some() && fields.remove("pooling").is_some());
    assert_eq!(serde_json::from_value::<VitConfig>(json)?, VitConfig::uniform(32, 2, 4));
    Ok(())
}

#[test]
fn vit_config_with_pooled_head_and_distillation_token_is_refused() {
    let check: Result<()> = vit().distilled().check();
    assert!(matches!(check, Err(Error::Invalid { name, .. }) if name == "pooling"));
    let check = vit().layer_scale(f64::NAN).check();
    assert!(matches!(check, Err(Error::Invalid { name, .. }) if name == "layer_scale"));
}
