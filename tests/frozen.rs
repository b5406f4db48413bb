//! Variables that are frozen after the build.

mod support;

use once_for_both::models::VitConfig;
use once_for_both::precision::Precision;
use once_for_both::search::{Search, SearchOptions};
use support::tiny_run::{alone, batch, search_with, vit};
use support::{test_device, TestResult};

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
        assert!(has(&search, "blocks.0.mlp.fc1.weight") && has(&search, "head.weight"));
        assert!(!has(&search, "blocks.0.mlp.fc2.weight") && !has(&search, "norm.bias"));
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
