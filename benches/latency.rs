//! How well a latency model predicts: random subnets of DeiT-S, Swin-T or a small ViT, predicted and timed.
//!
//! `cargo bench --bench latency -- 1` measures a model on the CPU at batch size 1, then times 50 subnets in turn with the
//! dense network. `-- 32 600 10` gives the measurement 600 seconds at batch size 32, and times 10 subnets; `swin` beside it
//! takes Swin-T, `small` the ViT of docs/quality.md, on images of 28 × 28. Then it times subnets whose widths are multiples
//! of 8 at 0.7, 0.5 and 0.3 of the MACs.

use once_for_both::latency::{DeviceMeter, LatencyModel, MeasureOptions, PredictionError};
use once_for_both::prelude::*;
use once_for_both::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Device;

fn main() -> Result<()> {
    let given: Vec<f64> = std::env::args().filter_map(|own| own.parse().ok()).collect();
    let number = |at: usize, default: f64| given.get(at).copied().unwrap_or(default);
    let mut options = MeasureOptions::default();
    options.seconds = number(1, options.seconds);
    let (batch, subnets) = (number(0, 1.0) as i64, number(2, 50.0) as usize);
    let words: Vec<String> = std::env::args().collect();
    let has = |word: &str| words.iter().any(|own| own == word);
    match (has("swin"), has("small")) {
        (true, _) => bench(&SwinConfig::tiny(), [batch, 3, 224, 224], subnets, &options),
        (_, true) => {
            let small = VitConfig::uniform(96, 4, 4).input(28, 1, 4).classes(10);
            bench(&small, [batch, 1, 28, 28], subnets, &options)
        }
        _ => bench(&VitConfig::deit_small(), [batch, 3, 224, 224], subnets, &options),
    }
}

fn bench<A: Architecture>(
    dense: &A,
    images: [i64; 4],
    subnets: usize,
    options: &MeasureOptions,
) -> Result<()> {
    let meter = DeviceMeter::new(Device::Cpu, Precision::F32, images)?;
    let space = dense.space()?;
    let model = LatencyModel::measure(dense, &space, &meter, options, &mut |progress| {
        println!("{progress}");
        Ok(())
    })?;
    println!("{model}");
    let pairs = check(dense, &space, &meter, &model, subnets)?;
    let error = PredictionError::of(&pairs);
    println!("{subnets} random subnets: median {:.4}, 95 % {:.4}", error.median, error.p95);
    speed_ups(dense, &meter, &model)
}

/// Predicted and measured latency of random subnets.
fn check<A: Architecture>(
    dense: &A,
    space: &SearchSpace,
    meter: &DeviceMeter,
    model: &LatencyModel,
    subnets: usize,
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
    (0..subnets).map(pair).collect()
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
