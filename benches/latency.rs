//! How well a latency model predicts: 50 random subnets of DeiT-S or Swin-T, predicted and timed.
//!
//! `cargo bench --bench latency -- 1` measures a model on the CPU at batch size 1, then times the subnets in turn
//! with the dense network. `-- 32 600` gives the measurement 600 seconds at batch size 32; `swin` beside it takes Swin-T.
//! At the end, how much of the speed-up that MACs promise subnets have whose widths are multiples of 8.

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
    speed_ups(dense, &meter, &model)
}

/// Speed-ups at budgets in MACs, all widths multiples of 8.
fn speed_ups<A: Architecture>(dense: &A, meter: &DeviceMeter, model: &LatencyModel) -> Result<()> {
    let kinds = [DimensionKind::Embedding, DimensionKind::Attention, DimensionKind::Hidden];
    let space =
        kinds.into_iter().try_fold(dense.space()?, |space, kind| space.multiple_of(kind, 8))?;
    let cost = dense.cost_model();
    let dense_macs = cost.dense_cost(Metric::Macs)?;
    for (shape, embedding) in [("all narrowed alike", 0.0), ("embedding dense", 1.0)] {
        for budget in [0.7, 0.5, 0.3] {
            let shares = (1..=100).rev().map(|percent| f64::from(percent) / 100.0);
            let mut sizes = shares.map(|share| narrowed(&space, share, embedding));
            let fits = |sizes: &Sizes| cost.cost(Metric::Macs, sizes).map(|macs| macs / dense_macs);
            let Some((sizes, macs)) = sizes.find_map(|sizes| match fits(&sizes) {
                Ok(macs) if macs <= budget => Some((sizes, macs)),
                _ => None,
            }) else {
                continue;
            };
            let own = model.check(meter, dense, &dense.resized(&sizes)?, &|| Ok(()))?;
            let speed_up = model.dense_ms / own.ms;
            println!(
                "{shape}, {macs:.3} of the MACs: speed-up {speed_up:.2} ± {:.2}, {:.3} of the promised {:.2}",
                speed_up * own.standard_error / own.ms,
                speed_up * macs,
                1.0 / macs
            );
        }
    }
    Ok(())
}

/// All heads, and of every width the largest candidate within a share of the dense one; of an embedding within
/// `embedding`, if that is more.
fn narrowed(space: &SearchSpace, share: f64, embedding: f64) -> Sizes {
    let own = space.dimensions.iter().map(|dimension| {
        let candidates = &dimension.candidates;
        let share = match dimension.kind {
            DimensionKind::Embedding => share.max(embedding),
            _ => share,
        };
        let most = share * candidates.channels() as f64;
        let within = |size: &Size| size.heads == candidates.heads() && size.channels as f64 <= most;
        let smallest = candidates.size(0);
        let least = Size { heads: candidates.heads(), ..smallest };
        (dimension.name.clone(), candidates.sizes().filter(within).last().unwrap_or(least))
    });
    own.collect()
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
