//! Variables that are frozen after the build.

mod support;

use once_for_both::components::{magnitude, UnitImportance};
use once_for_both::cost::{Budget, CostModel};
use once_for_both::models::{Architecture, VisionTransformer, VitConfig};
use once_for_both::precision::Precision;
use once_for_both::search::{Search, SearchOptions};
use once_for_both::space::{Role, SearchSpace};
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use support::tiny_run::{alone, batch, builder, search_with, vit};
use support::{test_device, TestResult, Tolerance};
use tch::nn;

const STEPS: u64 = 26;

/// Freezes all but the head.
fn freeze(search: &Search<VitConfig>) -> TestResult {
    for (name, own) in search.supernet().folded_weights() {
        if !name.starts_with("head.") {
            let _ = own.f_set_requires_grad(false)?;
        }
    }
    Ok(())
}

/// Whether θ has a variable: gradients, moments and EMA are as long as θ.
fn has(search: &Search<VitConfig>, name: &str) -> bool {
    search.supernet().theta().layout().get(name).is_some()
}

#[test]
fn frozen_variables_without_units_are_not_in_theta() -> TestResult {
    let _alone = alone();
    for precision in [Precision::F32, Precision::Bf16] {
        let options = SearchOptions::new(STEPS, 20).with(|own| own.training.precision = precision);
        let mut search = search_with(options, 0.5)?;
        freeze(&search)?;
        search.step(&[batch(0)?], &mut ())?;
        for with_units in ["blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight", "head.weight"] {
            assert!(has(&search, with_units), "{with_units}");
        }
        assert!(!has(&search, "blocks.0.mlp.fc2.bias") && !has(&search, "norm.bias"));
    }
    Ok(())
}

#[test]
fn training_of_the_head_alone_has_moments_and_mean_of_the_head_alone() -> TestResult {
    let _alone = alone();
    for precision in [Precision::F32, Precision::Bf16] {
        let options = SearchOptions::training(STEPS).with(|own| {
            own.training.precision = precision;
            own.training.ema_decay = Some(0.9);
        });
        let mut search = Search::of(vit()).options(options).device(test_device()).build()?;
        freeze(&search)?;
        search.step(&[batch(0)?], &mut ())?;
        search.step(&[batch(1)?], &mut ())?;
        let weights = search.supernet().raw_weights();
        let head = ["head.bias", "head.weight"].map(|name| weights[name].numel() as i64);
        let segments = search.supernet().theta().layout().segments();
        let length: i64 = segments.iter().map(|own| own.length()).sum();
        assert_eq!(length, head.iter().sum::<i64>());
        assert!(head[0] > 0 && has(&search, "head.weight"));
    }
    Ok(())
}

/// Freezing concerns the update alone: scores are those of all weights.
#[test]
fn magnitude_counts_variables_that_are_frozen_after_the_build() -> TestResult {
    let _alone = alone();
    let importance = UnitImportance::Magnitude { mean: 2.0, std: 0.5 };
    let mut found = Vec::new();
    for frozen in [false, true] {
        let search = builder(SearchOptions::new(STEPS, 20), 0.5).importance(importance);
        let mut search = search.build()?;
        if frozen {
            freeze(&search)?;
        }
        search.step(&[batch(0)?], &mut ())?;
        let states = search.supernet().states().iter();
        found.push(states.map(|own| own.score.detach().copy()).collect::<Vec<_>>());
    }
    assert!(found[0].iter().zip(&found[1]).all(|(free, frozen)| free.equal(frozen)), "{found:?}");
    Ok(())
}

/// A ViT that is built frozen: gates alone are learned.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BuiltFrozen;

impl Architecture for BuiltFrozen {
    type Network = VisionTransformer;

    const FAMILY: &'static str = "vit-built-frozen";

    fn build(&self, path: &nn::Path) -> Result<VisionTransformer> {
        let network = vit().build(path)?;
        for name in vit().variables()?.keys() {
            let mut folders: Vec<&str> = name.split('.').collect();
            let own = folders.pop().unwrap_or_default();
            let folder = folders.iter().fold(path.clone(), |path, folder| path / *folder);
            let _ = folder.get(own).map(|own| own.f_set_requires_grad(false)).transpose()?;
        }
        Ok(network)
    }

    fn space(&self) -> Result<SearchSpace> {
        vit().space()
    }

    fn cost_model(&self) -> CostModel {
        vit().cost_model()
    }
}

#[test]
fn magnitude_of_a_network_that_is_built_frozen_counts_what_gates_multiply() -> TestResult {
    let _alone = alone();
    let importance = UnitImportance::LearnedFromMagnitude { mean: 2.0, std: 0.5 };
    let space = vit().space()?.without(&["embed"])?;
    let search = Search::of(BuiltFrozen).budget(Budget::macs_share(0.8)).importance(importance);
    // θ is not divided by the gates that follow from the scores.
    let options = SearchOptions::new(STEPS, 20).with(|own| own.init.preserve_dense = false);
    let search = search.space(space.clone()).options(options).device(test_device()).build()?;
    let weights = search.supernet().raw_weights();
    for (state, mut dimension) in search.supernet().states().iter().zip(space.dimensions) {
        dimension.bindings.retain(|own| own.role == Role::Gated);
        let expected = magnitude(&dimension, &weights)? * 0.5 + 2.0;
        let close = Tolerance { relative: 1e-5, absolute: 1e-5 };
        close.check(&dimension.name, &state.score, &expected)?;
    }
    Ok(())
}
