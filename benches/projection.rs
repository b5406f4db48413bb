//! Time of the projection (choice of all sizes under a budget) for DeiT and Swin, with candidate
//! logits α drawn uniformly from [0, 2).
//!
//! `cargo bench --bench projection`

use once_for_both::cost::{project_close, Budget, Choice};
use once_for_both::models::{Architecture, SwinConfig, VitConfig};
use once_for_both::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;

/// Returns ln p of `count` candidates whose α are uniform in [0, 2).
fn log_probabilities(count: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let alpha: Vec<f64> = (0..count).map(|_| random.random_range(0.0..2.0)).collect();
    let sum: f64 = alpha.iter().map(|alpha| alpha.exp()).sum();
    alpha.iter().map(|alpha| alpha - sum.ln()).collect()
}

fn measure(name: &str, network: &impl Architecture) -> Result<()> {
    let (space, model) = (network.space()?, network.cost_model());
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let choices: Vec<Choice> = space
        .dimensions
        .iter()
        .map(|dimension| dimension.candidates.len())
        .map(|count| Choice {
            candidates: (0..count).collect(),
            log_probability: log_probabilities(count, &mut random),
        })
        .collect();
    for share in [0.35, 0.5, 0.8] {
        let limit = Budget::macs_share(share).resolve(&model)?;
        let started = Instant::now();
        let found = project_close(&model, &space, &choices, &[limit])?;
        let seconds = started.elapsed().as_secs_f64();
        let below = 1.0 - found.costs[0] / limit.limit;
        let (dimensions, value) = (space.dimensions.len(), found.log_probability);
        println!(
            "{name:8} {dimensions:3} dimensions, MACs budget {share:.2}: {seconds:5.2} s, cost \
             {below:.1e} below the budget, sum of ln p {value:.2}"
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    measure("DeiT-S", &VitConfig::deit_small())?;
    measure("DeiT-B", &VitConfig::deit_base())?;
    measure("Swin-T", &SwinConfig::tiny())?;
    measure("Swin-B", &SwinConfig::base())
}
