//! Overhead of the search on DeiT-S at batch size 8: time of the gates (masks, θ ⊙ gates,
//! pull-back, one-hot losses) and of a whole search step, each relative to a plain training step.
//!
//! `cargo bench --features report --bench gates -- 5`; the argument is the number of rounds
//! (default 5). `OFB_TEST_DEVICE` sets the device (default `cpu`).

use once_for_both::batch::Batch;
use once_for_both::components::{AdaptiveOneHotLoss, EntropyVarianceLoss};
use once_for_both::cost::Budget;
use once_for_both::device;
use once_for_both::models::VitConfig;
use once_for_both::precision::Precision;
use once_for_both::report::compare_latency;
use once_for_both::search::{Search, SearchOptions};
use once_for_both::supernet::{Supernet, Weights};
use once_for_both::Result;
use std::cell::RefCell;
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 8;

fn batch(device: Device) -> Result<Batch> {
    let images = Tensor::f_randn([BATCH, 3, 224, 224], (Kind::Float, device))?;
    let classes = Tensor::f_randint(1000, [BATCH], (Kind::Int64, device))?;
    Ok(Batch::classes(images, classes))
}

/// The part of a search step that plain training does not have: masks of all 25 dimensions, θ ⊙
/// gates, gradients of θ and gates (pull-back), one-hot losses, gradients of scores and α.
fn gates(supernet: &Supernet<VitConfig>, gradients: &Weights) -> Result<()> {
    let masks = supernet.masks(0.5)?;
    let gates: Vec<Tensor> = masks.iter().map(|mask| mask.mask.shallow_clone()).collect();
    supernet.materialise(&gates)?;
    let mut gradients: Weights =
        gradients.iter().map(|(name, gradient)| (name.clone(), gradient.shallow_clone())).collect();
    let pulled = supernet.pull_back(&mut gradients, &gates)?;
    let loss = EntropyVarianceLoss::paper();
    let mut total = Tensor::f_zeros([0i64; 0], (Kind::Float, supernet.device()))?;
    let dimensions = &supernet.space().dimensions;
    for (((state, dimension), mask), gradient) in
        supernet.states().iter().zip(dimensions).zip(&masks).zip(&pulled)
    {
        let one_hot = loss.loss(dimension.kind, &state.alpha, &state.active, &mask.importance)?;
        total = total.f_add(&mask.mask.f_mul(gradient)?.f_sum(None)?)?.f_add(&one_hot)?;
    }
    let leaves: Vec<&Tensor> =
        supernet.states().iter().flat_map(|state| [&state.score, &state.alpha]).collect();
    Tensor::f_run_backward(&[total], &leaves, false, false)?;
    Ok(())
}

/// Steps of a run: enough that no prune step falls into the measurement.
const STEPS: u64 = 1_000_000;

/// Builds a search of DeiT-S with half its MACs as budget, or plain training.
fn build(search: bool, precision: Precision, device: Device) -> Result<Search<VitConfig>> {
    let options = match search {
        true => SearchOptions::new(STEPS, STEPS),
        false => SearchOptions::training(STEPS),
    };
    let options = options.with(|options| {
        options.log_interval = STEPS;
        options.training.precision = precision;
    });
    let builder = Search::of(VitConfig::deit_small()).options(options).device(device);
    match search {
        true => builder.budget(Budget::macs_share(0.5)).build(),
        false => builder.build(),
    }
}

fn main() -> Result<()> {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5);
    let device = device::parse(&std::env::var("OFB_TEST_DEVICE").unwrap_or("cpu".into()))?;
    let cell = |search, precision| build(search, precision, device).map(RefCell::new);
    let (plain, search) = (cell(false, Precision::F32)?, cell(true, Precision::F32)?);
    let half = cell(true, Precision::Bf16)?;
    let batches = [batch(device)?];
    // The first step is logged and creates AdamW's moments, so it is not measured.
    for warmed in [&plain, &search, &half] {
        warmed.borrow_mut().step(&batches, &mut ())?;
    }
    let gradients = search.borrow().gradients(&batches)?.parameters;

    let times = compare_latency(
        &[
            &|| plain.borrow_mut().step(&batches, &mut ()),
            &|| gates(search.borrow().supernet(), &gradients),
            &|| search.borrow_mut().step(&batches, &mut ()),
            &|| half.borrow_mut().step(&batches, &mut ()),
        ],
        rounds,
        device,
    )?;
    let [plain, gates, search, half] = [0, 1, 2, 3].map(|at| times[at].median_ms);
    let row = |name, ms| println!("{name:<28} {ms:9.1} ms, {:5.1} % of plain", 100.0 * ms / plain);
    println!("DeiT-S, batch size {BATCH}, {device:?}, median of {rounds} alternating rounds");
    row("plain training step", plain);
    row("gates, pull-back, one-hot", gates);
    row("search step with PMIM", search);
    row("search step with PMIM, bf16", half);
    Ok(())
}
