//! Buffers of a wrapped network: running statistics, integers and flags.

use super::indexed_network::{Indexed, BUFFERS};
use super::late_network::{Late, LATE_BUFFERS};
use super::recipe_network::{recipe, Attention, Mlp, Recipe, CLASSES};
use super::Batches;
use crate::support::damage::renew_checksums;
use crate::support::tiny_run::alone;
use crate::support::{test_device, TestResult, Tolerance};
use once_for_both::batch::Batch;
use once_for_both::cost::Budget;
use once_for_both::precision::Precision;
use once_for_both::search::{Checkpoints, Search, SearchOptions};
use once_for_both::subnet::{Export, Subnet};
use std::path::Path;
use tch::{Kind, Tensor};

const BATCHES: Batches = Batches { count: 4, side: 16, classes: CLASSES };

fn options() -> SearchOptions {
    SearchOptions::new(12, 8).seed(5).with(|o| {
        o.pmim = None;
        o.pruning.interval = 2;
        o.pruning.fade_out_steps = 1;
    })
}

/// Copies of the running statistics.
fn statistics(search: &Search<Recipe>) -> Vec<Tensor> {
    let weights = search.supernet().raw_weights();
    ["bn.running_mean", "bn.running_var"].map(|name| weights[name].copy()).into()
}

#[test]
fn step_with_nan_leaves_the_statistics_of_a_batch_norm_unchanged() -> TestResult {
    let _alone = alone();
    for (precision, good) in
        [Precision::F32, Precision::Bf16].map(|own| [(own, 0), (own, 2)]).concat()
    {
        let options = options().with(|o| o.training.precision = precision);
        let network = recipe(Attention::Grouped, Mlp::BatchNorm);
        let builder = Search::of(network).budget(Budget::macs_share(0.6)).options(options);
        let mut search = builder.device(test_device()).build()?;
        for step in 0..good {
            search.step(&[BATCHES.at(step)?], &mut ())?;
        }
        let before = statistics(&search);
        let batch = BATCHES.at(good)?;
        search.step(&[Batch { images: batch.images * f64::NAN, ..batch }], &mut ())?;
        assert_eq!(statistics(&search), before, "{precision:?} after {good} steps");
        // Only finite statistics can be resumed.
        let folder = tempfile::tempdir()?;
        let saved = Checkpoints::new(folder.path(), 1).save(&search)?;
        let mut search = Search::<Recipe>::resume(saved, test_device())?;
        search.step(&[BATCHES.at(good + 1)?], &mut ())?;
        for (now, former) in statistics(&search).iter().zip(&before) {
            assert!(!now.equal(former), "{precision:?} after {good} steps");
            assert!(now.isfinite().all().int64_value(&[]) == 1);
        }
    }
    Ok(())
}

#[test]
fn skipped_step_leaves_a_buffer_that_the_first_step_did_not_write() -> TestResult {
    let _alone = alone();
    for precision in [Precision::F32, Precision::Bf16] {
        let options = options().with(|o| o.training.precision = precision);
        let network = Late(recipe(Attention::Grouped, Mlp::SwiGlu));
        let builder = Search::of(network).budget(Budget::macs_share(0.6)).options(options);
        let mut search = builder.device(test_device()).build()?;
        let values = |search: &Search<Late>| {
            let weights = search.supernet().raw_weights();
            LATE_BUFFERS.map(|name| weights[name].double_value(&[0]))
        };
        search.step(&[BATCHES.at(0)?], &mut ())?;
        let before = values(&search);
        assert!(before[0] > 0.0 && before[1] == 0.0, "{precision:?}: {before:?}");
        let batch = BATCHES.at(1)?;
        search.step(&[Batch { images: batch.images * f64::NAN, ..batch }], &mut ())?;
        assert_eq!(values(&search), before, "{precision:?}");
        search.step(&[BATCHES.at(2)?], &mut ())?;
        let after = values(&search);
        assert!(after[0] > before[0] && after[1] != 0.0, "{precision:?}: {after:?}");
    }
    Ok(())
}

#[test]
fn network_with_integers_and_flags_is_taught_by_itself_extracted_and_loaded() -> TestResult {
    let _alone = alone();
    let network = Indexed(recipe(Attention::Separate, Mlp::SwiGlu));
    let plain = Search::training(network.clone(), 1).device(test_device()).build()?;
    let weights = plain.supernet().raw_weights();
    let builder = Search::of(network).weights(&weights).budget(Budget::macs_share(0.6));
    let mut search = builder.options(options()).device(test_device()).build()?;
    while !search.is_done() {
        search.step(&[BATCHES.at(search.steps_done())?], &mut ())?;
    }
    let images = BATCHES.at(50)?.images;
    let subnet = search.extract(&images)?;
    let logits = subnet.predict(&images)?;
    for (export, tolerance) in [(Export::f32(), 0.0), (Export::f16(), 1e-2)] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("subnet");
        subnet.save(&path, &export)?;
        let loaded = Subnet::<Indexed>::load(&path, test_device())?;
        for (name, kind) in BUFFERS {
            assert_eq!(loaded.weights()[name].kind(), kind, "{name}");
            assert!(loaded.weights()[name].equal(&weights[name]), "{name}");
        }
        let found = loaded.predict(&images)?;
        Tolerance::of_scale(tolerance, &logits)?.check("logits", &found, &logits)?;
    }
    Ok(())
}

/// Changes tensors in the file of an artifact, and its checksums.
fn rewrite(artifact: &Path, change: impl Fn(&str, &Tensor) -> Tensor) -> TestResult {
    let [weights, config] = ["model.safetensors", "config.json"].map(|name| artifact.join(name));
    let stored = Tensor::read_safetensors(&weights)?;
    let changed = stored.iter().map(|(name, own)| (name.as_str(), change(name, own)));
    Tensor::write_safetensors(&changed.collect::<Vec<_>>(), &weights)?;
    let mut described: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    described["weights_crc32"] = crc32fast::hash(&std::fs::read(&weights)?).into();
    std::fs::write(&config, serde_json::to_vec(&described)?)?;
    renew_checksums(artifact)
}

fn is_buffer(name: &str) -> bool {
    BUFFERS.iter().any(|(buffer, _)| *buffer == name)
}

#[test]
fn artifact_with_integers_and_flags_stored_as_floats_is_loaded_if_all_are_whole() -> TestResult {
    let _alone = alone();
    let network = Indexed(recipe(Attention::Separate, Mlp::SwiGlu));
    let mut search = Search::training(network, 1).device(test_device()).build()?;
    search.step(&[BATCHES.at(0)?], &mut ())?;
    let subnet = search.extract(&BATCHES.at(50)?.images)?;
    let folder = tempfile::tempdir()?;
    for export in [Export::f32(), Export::f16()] {
        let path = folder.path().join("subnet");
        subnet.save(&path, &export)?;
        let float = if export.precision.name() == "f32" { Kind::Float } else { Kind::Half };
        rewrite(&path, |name, own| match is_buffer(name) {
            true => own.to_kind(float),
            false => own.shallow_clone(),
        })?;
        let loaded = Subnet::<Indexed>::load(&path, test_device())?;
        for (name, kind) in BUFFERS {
            assert_eq!(loaded.weights()[name].kind(), kind, "{name}");
            assert!(loaded.weights()[name].equal(&subnet.weights()[name]), "{name}");
        }
        for (changed, added) in [("order", 0.5), ("shown", 2.0), ("bytes", 300.0)] {
            subnet.save(&path, &export)?;
            rewrite(&path, |name, own| match name == changed {
                true => own.to_kind(float) + added,
                false => own.shallow_clone(),
            })?;
            let refused = Subnet::<Indexed>::load(&path, test_device());
            let error = refused.err().ok_or(changed)?.to_string();
            assert!(error.contains(&format!("type of {changed}: got {float:?}")), "{error}");
        }
    }
    Ok(())
}
