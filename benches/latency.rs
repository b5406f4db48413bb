//! How well a latency model predicts: 50 random subnets of DeiT-S or Swin-T, predicted and timed.
//!
//! `cargo bench --bench latency -- 1` measures a model on the CPU at batch size 1, then times the subnets in turn
//! with the dense network. `-- 32 600` gives the measurement 600 seconds at batch size 32; `swin` beside it takes Swin-T.
//! Then it times subnets whose widths are multiples of 8 at 0.7, 0.5 and 0.3 of the MACs.

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
    let space = dense.space()?;
    let space = kinds.into_iter().try_fold(space, |space, kind| space.multiple_of(kind, 8))?;
    for (shape, least_embedding) in [("all widths narrowed", 0.0), ("dense embedding", 1.0)] {
        for budget in [0.7, 0.5, 0.3] {
            let Some((sizes, macs)) = within(dense, &space, budget, least_embedding)? else {
                println!("{shape}: no network within {budget} of the MACs");
                continue;
            };
            let own = model.check(meter, dense, &dense.resized(&sizes)?, &|| Ok(()))?;
            let (speed_up, error) = (model.dense_ms / own.ms, own.standard_error / own.ms);
            println!(
                "{shape}, {macs:.3} of the MACs: speed-up {speed_up:.2} ± {:.2}, {:.3} of dense MACs / MACs",
                speed_up * error,
                speed_up * macs
            );
        }
    }
    Ok(())
}

/// Returns the sizes of the largest narrowed network within a share of the dense MACs, and its share.
fn within<A: Architecture>(
    dense: &A,
    space: &SearchSpace,
    budget: f64,
    least_embedding: f64,
) -> Result<Option<(Sizes, f64)>> {
    let cost = dense.cost_model();
    for percent in (1..=100).rev() {
        let sizes = narrowed(space, f64::from(percent) / 100.0, least_embedding);
        let macs = cost.cost(Metric::Macs, &sizes)? / cost.dense_cost(Metric::Macs)?;
        if macs <= budget {
            return Ok(Some((sizes, macs)));
        }
    }
    Ok(None)
}

/// Returns all heads, and of every width the largest candidate within a share of the dense width, or the smallest.
/// `least_embedding`: least share of an embedding.
fn narrowed(space: &SearchSpace, share: f64, least_embedding: f64) -> Sizes {
    let own = space.dimensions.iter().map(|dimension| {
        let candidates = &dimension.candidates;
        let share = match dimension.kind {
            DimensionKind::Embedding => share.max(least_embedding),
            _ => share,
        };
        let most = share * candidates.channels() as f64;
        let all_heads = || candidates.sizes().filter(|size| size.heads == candidates.heads());
        let widest = all_heads().filter(|size| size.channels as f64 <= most).last();
        let size = widest.or_else(|| all_heads().next()).unwrap_or(candidates.full());
        (dimension.name.clone(), size)
    });
    own.collect()
}
