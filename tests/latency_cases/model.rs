//! Measurement, prediction, storage and refusals of a model.

use crate::assert_refused;
use crate::device::{measured, milliseconds, noisy, quiet, vit, SyntheticDevice};
use crate::support::TestResult;
use once_for_both::error::LatencyError;
use once_for_both::latency::{
    DeviceMeter, LatencyModel, MeasureOptions, Meter, PredictionError, Setting, Timer,
};
use once_for_both::prelude::*;
use once_for_both::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Device;

fn random_sizes(space: &SearchSpace, random: &mut ChaCha8Rng) -> Sizes {
    let own = space.dimensions.iter().map(|dimension| {
        let at = random.random_range(0..dimension.candidates.len() as u64) as usize;
        (dimension.name.clone(), dimension.candidates.size(at))
    });
    own.collect()
}

/// Error of predictions for 40 random networks, relative to what the undisturbed device takes.
fn true_error(
    model: &LatencyModel,
    dense: &VitConfig,
    space: &SearchSpace,
) -> TestResult<PredictionError> {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let pair = |_| -> TestResult<[f64; 2]> {
        let sizes = random_sizes(space, &mut random);
        Ok([
            model.predict(&sizes)? / model.dense_ms,
            milliseconds(&dense.resized(&sizes)?) / milliseconds(dense),
        ])
    };
    let pairs = (0..40).map(pair).collect::<TestResult<Vec<_>>>()?;
    Ok(PredictionError::of(&pairs))
}

#[test]
fn model_of_a_quiet_device_predicts_random_networks_within_two_percent() -> TestResult {
    let model = quiet()?;
    let error = true_error(&model, &vit(), &vit().space()?)?;
    assert!(error.median < 0.02 && error.p95 < 0.05, "{error:?}");
    assert_eq!(model.drift, 0.0);
    Ok(())
}

#[test]
fn model_of_a_device_with_noise_and_drift_predicts_random_networks_within_three_percent(
) -> TestResult {
    let model = noisy()?;
    let error = true_error(&model, &vit(), &vit().space()?)?;
    assert!(error.median < 0.03 && error.p95 < 0.08, "{error:?}");
    assert!(model.drift > 0.1, "{}", model.drift);
    // The model's own estimate is of the same size.
    assert!(model.error.median < 0.05 && model.error.networks == 12, "{:?}", model.error);
    Ok(())
}

#[test]
fn model_with_removable_branches_predicts_random_networks_within_three_percent() -> TestResult {
    let (vit, options) = (vit(), MeasureOptions { networks: 80, ..MeasureOptions::default() });
    let space = vit.space()?.removable_branches();
    let device = SyntheticDevice::quiet();
    let model = LatencyModel::measure(&vit, &space, &device, &options, &mut |_| Ok(()))?;
    model.expect_space(&space)?;
    let error = true_error(&model, &vit, &space)?;
    assert!(error.median < 0.03 && error.p95 < 0.08, "{error:?}");
    // What a branch costs however small it is, is saved with it.
    for name in ["blocks.1.attn", "blocks.1.mlp"] {
        let at = |size| {
            model.predict(
                &[(name.into(), size)]
                    .into_iter()
                    .chain(space.full_sizes().into_iter().filter(|(own, _)| own != name))
                    .collect(),
            )
        };
        let least =
            space.dimensions.iter().find(|own| own.name == name).ok_or(name)?.candidates.size(1);
        assert!(at(Size::REMOVED)? < at(least)? - 0.1, "{name}");
    }
    // The text has what a removal saves: of the MLPs, and of all attentions but the first.
    assert_eq!(model.to_string().matches("  removed: ").count(), 2, "{model}");
    // Measured without removable branches, it does not know what a removal saves.
    assert_refused!(quiet()?.expect_space(&space), Error::Latency(LatencyError::Beyond { .. }));
    Ok(())
}

#[test]
fn model_with_queries_and_keys_apart_predicts_random_networks_within_three_percent() -> TestResult {
    let (vit, options) =
        (vit().qk_v_apart()?, MeasureOptions { networks: 80, ..MeasureOptions::default() });
    let space = vit.space()?.removable_branches();
    let device = SyntheticDevice::quiet();
    let model = LatencyModel::measure(&vit, &space, &device, &options, &mut |_| Ok(()))?;
    let error = true_error(&model, &vit, &space)?;
    assert!(error.median < 0.03 && error.p95 < 0.08, "{error:?}");
    // Their width is one more axis of the table of an attention; where the attention is removed, it costs nothing.
    assert_eq!(model.cost.tables().iter().map(|own| own.grids.len()).max(), Some(3));
    let at = |attention: Size, queries: i64| {
        let mut sizes = space.full_sizes();
        sizes.insert("blocks.1.attn".into(), attention);
        sizes.insert("blocks.1.attn.qk".into(), Size::flat(queries));
        model.predict(&sizes)
    };
    let saved = |size| -> TestResult<f64> { Ok((at(size, 16)? - at(size, 4)?) / model.dense_ms) };
    assert!(saved(Size { heads: 4, channels: 16 })? > 0.005);
    assert_eq!(saved(Size::REMOVED)?, 0.0);
    Ok(())
}

#[test]
fn model_is_exact_for_the_dense_network() -> TestResult {
    let model = noisy()?;
    let dense = model.predict(&vit().space()?.full_sizes())?;
    assert!((dense / model.dense_ms - 1.0).abs() < 1e-3, "{dense} {}", model.dense_ms);
    Ok(())
}

#[test]
fn model_of_equal_blocks_shares_one_table_for_attention_and_one_for_mlp() -> TestResult {
    let model = quiet()?;
    assert_eq!((model.cost.tables().len(), model.cost.terms().len()), (2, 8));
    Ok(())
}

#[test]
fn prediction_never_falls_where_one_dimension_grows() -> TestResult {
    let model = noisy()?;
    let (space, mut random) = (vit().space()?, ChaCha8Rng::seed_from_u64(5));
    for _ in 0..60 {
        let mut sizes = random_sizes(&space, &mut random);
        let at = random.random_range(0..space.dimensions.len() as u64) as usize;
        let dimension = &space.dimensions[at];
        let before = (sizes[&dimension.name], model.predict(&sizes)?);
        for size in dimension.candidates.sizes() {
            let grows = size.heads >= before.0.heads && size.units() >= before.0.units();
            sizes.insert(dimension.name.clone(), size);
            let predicted = model.predict(&sizes)?;
            assert!(!grows || predicted >= before.1, "{} {size}: {predicted}", dimension.name);
        }
    }
    Ok(())
}

#[test]
fn measurement_with_the_same_seed_on_the_same_device_is_the_same() -> TestResult {
    assert_eq!(measured(&SyntheticDevice::noisy())?, noisy()?);
    Ok(())
}

#[test]
fn progress_reports_every_network_and_its_error_ends_the_measurement() -> TestResult {
    let (vit, options) = (vit(), MeasureOptions { networks: 30, ..MeasureOptions::default() });
    let mut counts = Vec::new();
    let device = SyntheticDevice::quiet();
    LatencyModel::measure(&vit, &vit.space()?, &device, &options, &mut |progress| {
        counts.push((progress.measured, progress.networks));
        Ok(())
    })?;
    assert_eq!(counts.last(), Some(&(30, 30)));
    let stopped = LatencyModel::measure(&vit, &vit.space()?, &device, &options, &mut |_| {
        Err(Error::Unsupported { model: "test".into(), operation: "going on" })
    });
    assert_refused!(stopped, Error::Unsupported { .. });
    Ok(())
}

#[test]
fn written_model_is_read_as_it_was() -> TestResult {
    let model = noisy()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("latency.json");
    model.write(&path)?;
    assert_eq!(LatencyModel::read(&path)?, model);
    for network in &model.networks {
        let (sizes, held_out) = (&network.sizes, network.held_out);
        let predicted = model.predict(sizes)?;
        assert!(held_out || predicted == network.predicted_ms, "{sizes:?}: {predicted}");
    }
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, text.replace("\"version\": 1", "\"version\": 9"))?;
    assert_refused!(LatencyModel::read(&path), Error::File { reason, .. } if reason.contains("version: got 9"));
    std::fs::write(&path, text.replace("once-for-both/latency", "other"))?;
    assert_refused!(LatencyModel::read(&path), Error::File { reason, .. } if reason.contains("format: got"));
    std::fs::write(&path, text.replacen("\"table\": 0", "\"table\": 7", 1))?;
    assert_refused!(LatencyModel::read(&path), Error::File { .. });
    Ok(())
}

#[test]
fn model_of_other_conditions_is_refused_with_both_names() -> TestResult {
    let own = SyntheticDevice::quiet().setting();
    let others = [
        ("device", "other", Setting { device: "other".into(), ..own.clone() }),
        ("threads", "1", Setting { threads: Some(1), ..own.clone() }),
        ("precision", "bf16", Setting { precision: Precision::Bf16, ..own.clone() }),
        ("images", "8 × 3 × 32 × 32", Setting { images: [8, 3, 32, 32], ..own.clone() }),
        ("version of libtorch", "3", Setting { libtorch: "3".into(), ..own.clone() }),
    ];
    for (name, other, setting) in others {
        match own.expect(&setting) {
            Err(Error::Latency(LatencyError::Differs { what, measured, present })) => {
                assert_eq!((what, present.as_str()), (name, other));
                assert_ne!(measured, present);
            }
            result => panic!("{name}: {result:?}"),
        }
    }
    own.expect(&Setting { crate_version: "1".into(), ..own.clone() })?;
    Ok(())
}

#[test]
fn model_of_another_architecture_is_refused_with_the_first_difference() -> TestResult {
    let model = quiet()?;
    model.expect_architecture(&vit())?;
    assert_refused!(
        model.expect_architecture(&VitConfig { embed_dim: 96, ..vit() }),
        Error::Latency(LatencyError::Differs { what: "architecture", ref measured, ref present })
            if measured == "embed_dim = 64" && present == "embed_dim = 96"
    );
    assert_refused!(
        model.expect_architecture(&SwinConfig::tiny()),
        Error::Latency(LatencyError::Differs { what: "family", ref measured, ref present })
            if measured == "vit" && present == "swin"
    );
    Ok(())
}

#[test]
fn model_holds_for_networks_of_any_stochastic_depth() -> TestResult {
    let dropping = VitConfig { drop_path: 0.1, ..vit() };
    let (device, space) = (SyntheticDevice::quiet(), vit().space()?);
    let options = MeasureOptions { networks: 24, most_error: 1.0, ..MeasureOptions::default() };
    let mut own = LatencyModel::measure(&dropping, &space, &device, &options, &mut |_| Ok(()))?;
    for model in [&quiet()?, &own] {
        model.expect_architecture(&vit())?;
        model.expect_architecture(&dropping)?;
    }
    // A file of an earlier version.
    own.architecture = serde_json::to_value(&dropping)?;
    own.expect_architecture(&VitConfig { drop_path: 0.2, ..vit() })?;
    assert_refused!(
        own.expect_architecture(&VitConfig { embed_dim: 96, ..dropping }),
        Error::Latency(LatencyError::Differs { what: "architecture", ref measured, .. })
            if measured == "embed_dim = 64"
    );
    Ok(())
}

#[test]
fn model_refuses_a_space_with_candidates_beyond_the_measured_ones() -> TestResult {
    let model = quiet()?;
    let mut space = vit().space()?;
    space.dimension_mut("blocks.1.mlp")?.candidates = Candidates::flat(256, vec![16, 128])?;
    assert_refused!(
        model.expect_space(&space),
        Error::Latency(LatencyError::Beyond { dimension, size }) if dimension == "blocks.1.mlp" && size == "16"
    );
    space.dimension_mut("blocks.1.mlp")?.name = "other".into();
    assert_refused!(model.expect_space(&space), Error::Unknown { .. });
    // Where units are pairs of channels, the error counts channels.
    let mut space = vit().space()?;
    let pairs = space.dimension_mut("blocks.1.attn")?;
    (pairs.candidates, pairs.bindings) =
        (Candidates::grid(4, 64, vec![4], vec![64])?, vec![Binding::gated("q", 0).half_split()]);
    assert_refused!(
        model.expect_space(&space),
        Error::Latency(LatencyError::Beyond { size, .. }) if size == "4 × 128"
    );
    Ok(())
}

#[test]
fn model_of_one_or_two_networks_has_an_error_of_one_held_out() -> TestResult {
    let (vit, space) = (vit(), vit().space()?.only(&["embed"])?);
    for networks in [1, 2] {
        let options = MeasureOptions { networks, most_error: 1.0, ..MeasureOptions::default() };
        let device = SyntheticDevice::quiet();
        let model = LatencyModel::measure(&vit, &space, &device, &options, &mut |_| Ok(()))?;
        assert!(model.error.median.is_finite() && model.error.networks == 1, "{:?}", model.error);
    }
    Ok(())
}

#[test]
fn model_of_a_space_without_a_choice_is_refused_before_anything_is_measured() -> TestResult {
    let (vit, options) = (vit(), MeasureOptions::default());
    let mut single = vit.space()?.only(&["embed"])?;
    single.dimension_mut("embed")?.candidates = Candidates::flat(64, vec![64])?;
    for space in [single, SearchSpace::empty()] {
        // The meter would be refused by its time of 0.
        let refused = LatencyModel::measure(&vit, &space, &Stopped, &options, &mut |_| Ok(()));
        assert_refused!(
            refused,
            Error::Invalid { ref name, .. } if name == "search space of the latency model"
        );
    }
    Ok(())
}

/// A device whose clock stands still.
#[derive(Debug)]
struct Stopped;

impl Meter<VitConfig> for Stopped {
    fn setting(&self) -> Setting {
        Meter::<VitConfig>::setting(&SyntheticDevice::quiet())
    }

    fn prepare(&self, _: &VitConfig) -> Result<Timer<'_>> {
        Ok(Box::new(|| Ok(0.0)))
    }
}

#[test]
fn measured_time_that_is_not_positive_is_refused_with_the_network() -> TestResult {
    let (vit, options) = (vit(), MeasureOptions::default());
    let refused = LatencyModel::measure(&vit, &vit.space()?, &Stopped, &options, &mut |_| Ok(()));
    assert_refused!(
        refused,
        Error::Latency(LatencyError::NotPositive { ref network, .. }) if network == "the dense network"
    );
    Ok(())
}

#[test]
fn model_of_a_device_too_noisy_for_the_allowed_error_is_refused_with_its_error() -> TestResult {
    let device = SyntheticDevice { noise: 0.4, ..SyntheticDevice::quiet() };
    let (vit, options) =
        (vit(), MeasureOptions { networks: 30, rounds: 3, ..MeasureOptions::default() });
    let measure =
        |options| LatencyModel::measure(&vit, &vit.space()?, &device, &options, &mut |_| Ok(()));
    assert_refused!(
        measure(options),
        Error::Latency(LatencyError::Inaccurate { error, limit, .. }) if error > limit && limit == 0.05
    );
    measure(MeasureOptions { most_error: 1.0, ..options })?;
    Ok(())
}

#[test]
fn model_without_an_error_estimate_is_refused_as_inaccurate() -> TestResult {
    let mut model = quiet()?;
    model.expect_accurate(0.05)?;
    model.error.median = f64::NAN;
    assert_refused!(
        model.expect_accurate(0.05),
        Error::Latency(LatencyError::Inaccurate { error, .. }) if error.is_nan()
    );
    Ok(())
}

#[test]
fn card_without_a_name_is_refused() {
    let refused = Setting::here(Device::Cuda(4711), Precision::F32, [1, 3, 32, 32]);
    assert_refused!(refused, Error::Latency(LatencyError::Unnamed { index: 4711 }));
}

#[test]
fn measurement_with_options_out_of_range_is_refused() -> TestResult {
    let vit = vit();
    for options in [
        MeasureOptions { networks: 0, ..MeasureOptions::default() },
        MeasureOptions { networks: 501, ..MeasureOptions::default() },
        MeasureOptions { rounds: 0, ..MeasureOptions::default() },
        MeasureOptions { seconds: f64::NAN, ..MeasureOptions::default() },
        MeasureOptions { most_error: 0.0, ..MeasureOptions::default() },
    ] {
        let device = SyntheticDevice::quiet();
        let refused =
            LatencyModel::measure(&vit, &vit.space()?, &device, &options, &mut |_| Ok(()));
        assert_refused!(refused, Error::Invalid { .. });
    }
    assert_refused!(
        DeviceMeter::new(Device::Cpu, Precision::F32, [0, 3, 8, 8]),
        Error::Invalid { .. }
    );
    assert_refused!(
        DeviceMeter::new(Device::Mps, Precision::F32, [1, 3, 8, 8]),
        Error::Invalid { ref name, .. } if name == "device of the meter"
    );
    Ok(())
}

#[test]
fn profile_has_one_entry_for_dimensions_of_equal_layers_and_rises_with_the_size() -> TestResult {
    let profile = quiet()?.profile()?;
    let names: Vec<usize> = profile.iter().map(|own| own.names.len()).collect();
    assert_eq!(names, [1, 4, 4]);
    for own in &profile {
        let (first, last) = (own.latency[0], own.latency[own.latency.len() - 1]);
        assert!(first.1 < last.1, "{own:?}");
        assert!((last.1 / quiet()?.dense_ms - 1.0).abs() < 1e-3, "{own:?}");
    }
    Ok(())
}

#[test]
fn device_meter_builds_and_times_a_network_in_its_precision() -> TestResult {
    for precision in [Precision::F32, Precision::Bf16] {
        let meter = DeviceMeter::new(Device::Cpu, precision, [2, 3, 32, 32])?;
        assert!(meter.prepare(&vit())?()? > 0.0);
        let setting = Meter::<VitConfig>::setting(&meter);
        assert_eq!(setting, Setting::here(Device::Cpu, precision, [2, 3, 32, 32])?);
        assert!(!setting.device.is_empty() && setting.libtorch.starts_with('2'), "{setting:?}");
    }
    Ok(())
}
