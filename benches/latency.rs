//! How well a latency model predicts: 50 random subnets of DeiT-S or Swin-T, predicted and timed.
//!
//! `cargo bench --bench latency -- 1` measures a model on the CPU at batch size 1, then times the subnets in turn
//! with the dense network. `-- 32 600` gives the measurement 600 seconds at batch size 32; `swin` beside it takes Swin-T.

use once_for_both::latency::{DeviceMeter, LatencyModel, MeasureOptions, PredictionError};
use once_for_both::prelude::*;
use once_for_both::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Device;

const SUBNETS: usize = 50;

fn main() -> Result<()> {
    let given: Vec<f64> = std::env::args().filter_map(|own| own.parse().ok()).collect();
    let batch = given.first().map_or(1, |batch| *batch as i64);
    let mut options = MeasureOptions::default();
    options.seconds = given.get(1).copied().unwrap_or(options.seconds);
    match std::env::args().any(|word| word == "swin") {
        true => bench(&SwinConfig::tiny(), batch, &options),
        false => bench(&VitConfig::deit_small(), batch, &options),
    }
}

fn bench<A: Architecture>(dense: &A, batch: i64, options: &MeasureOptions) -> Result<()> {
    let meter = DeviceMeter::new(Device::Cpu, Precision::F32, [batch, 3, 224, 224])?;
    let space = dense.space()?;
    let model = LatencyModel::measure(dense, &space, &meter, options, &mut |progress| {
        println!("{progress}");
        Ok(())
    })?;
    println!("{model}");
    let pairs = check(dense, &space, &meter, &model)?;
    let error = PredictionError::of(&pairs);
    println!("{SUBNETS} random subnets: median {:.4}, 95 % {:.4}", error.median, error.p95);
    Ok(())
}

/// Predicted and measured latency of random subnets.
fn check<A: Architecture>(
    dense: &A,
    space: &SearchSpace,
    meter: &DeviceMeter,
    model: &LatencyModel,
) -> Result<Vec<[f64; 2]>> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let pair = |_| {
        let sizes = random_sizes(space, &mut random);
        let measured = model.check(meter, dense, &dense.resized(&sizes)?, &|| Ok(()))?;
        let predicted = model.predict(&sizes)?;
        println!(
            "predicted {predicted:.3}, measured {:.3} ± {:.3} ms, {:+.4}",
            measured.ms,
            measured.standard_error,
            predicted / measured.ms - 1.0
        );
        Ok([predicted, measured.ms])
    };
    (0..SUBNETS).map(pair).collect()
}

/// Sizes of every dimension, drawn around a share that is drawn for the network.
fn random_sizes(space: &SearchSpace, random: &mut ChaCha8Rng) -> Sizes {
    let share: f64 = random.random();
    let own = space.dimensions.iter().map(|dimension| {
        let candidates: Vec<Size> = dimension.candidates.sizes().collect();
        let at = (share + 0.7 * (random.random::<f64>() - 0.5)).clamp(0.0, 0.999);
        (dimension.name.clone(), candidates[(at * candidates.len() as f64) as usize])
    });
    own.collect()
}
