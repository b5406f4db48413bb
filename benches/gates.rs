//! Overhead of the search on DeiT-S or Swin-T, at batch size 8 on the CPU and 128 elsewhere: time of the gates (masks, θ ⊙ gates,
//! pull-back, one-hot losses) and of whole search steps, with and without the dense network as teacher
//! and masked image modeling, each relative to the plain training step of the same round; then the peak memory of
//! a plain step and of the default search step beside what they keep.
//!
//! `cargo bench --features data,report --bench gates -- 5`; the argument is the number of rounds
//! (default 5), and `swin` beside it takes Swin-T. `OFB_TEST_DEVICE` sets the device (default `cpu`).

use once_for_both::batch::Batch;
use once_for_both::components::{AdaptiveOneHotLoss, EntropyVarianceLoss};
use once_for_both::cost::Budget;
use once_for_both::device;
use once_for_both::latency::peak_memory;
use once_for_both::latency::{latency_rounds, median};
use once_for_both::models::{Architecture, SwinConfig, VitConfig};
use once_for_both::optim::FlatTensors;
use once_for_both::precision::Precision;
use once_for_both::search::{Search, SearchOptions};
use once_for_both::supernet::{Supernet, Weights};
use once_for_both::Result;
use std::cell::RefCell;
use tch::{Device, Kind, Tensor};

/// Images of a step: few on the CPU, where a step takes long, and enough to keep a card busy.
fn batch_size(device: Device) -> i64 {
    match device {
        Device::Cpu => 8,
        _ => 128,
    }
}

fn batch(device: Device) -> Result<Batch> {
    let size = batch_size(device);
    let images = Tensor::f_randn([size, 3, 224, 224], (Kind::Float, device))?;
    let classes = Tensor::f_randint(1000, [size], (Kind::Int64, device))?;
    Ok(Batch::classes(images, classes))
}

/// The part of a search step that plain training does not have: masks of all dimensions, θ ⊙
/// gates, gradients of θ and gates (pull-back), one-hot losses, gradients of scores and α.
fn gates<A: Architecture>(supernet: &Supernet<A>, gradients: &Weights) -> Result<()> {
    let masks = supernet.masks(0.5)?;
    let gates: Vec<Tensor> = masks.iter().map(|mask| mask.mask.shallow_clone()).collect();
    supernet.materialise(&gates)?;
    let layout = supernet.theta().layout();
    let gradients = FlatTensors::gather(layout, supernet.device(), |own| gradients.get(&own.name))?;
    let pulled = supernet.pull_back(&gradients, &gates)?;
    let loss = EntropyVarianceLoss::paper();
    let alphas: Vec<&Tensor> = supernet.states().iter().map(|state| &state.alpha).collect();
    let kinds = supernet.space().dimensions.iter().map(|dimension| dimension.kind);
    let importance: Vec<_> = kinds.zip(masks.iter().map(|mask| &mask.importance)).collect();
    let mut total = loss.alpha_losses(&alphas, &*supernet.active_sets()?)?;
    total = total.f_add(&loss.importance_losses(&importance)?)?;
    for (mask, gradient) in masks.iter().zip(&pulled) {
        total = total.f_add(&mask.mask.f_mul(gradient)?.f_sum(None)?)?;
    }
    let leaves: Vec<&Tensor> =
        supernet.states().iter().flat_map(|state| [&state.score, &state.alpha]).collect();
    Tensor::f_run_backward(&[total], &leaves, false, false)?;
    Ok(())
}

/// Steps of a run: enough that no prune step falls into the measurement.
const STEPS: u64 = 1_000_000;

/// A network to measure, on a device.
struct Measured<A> {
    dense: A,
    name: &'static str,
    device: Device,
    rounds: usize,
}

/// Builds plain training of the network, or a search with half its MACs as budget.
fn build<A: Architecture>(
    measured: &Measured<A>,
    options: SearchOptions,
    weights: Option<&Weights>,
) -> Result<Step<A>> {
    let options = options.with(|options| options.log_interval = STEPS);
    let searches = options.search_steps > 0;
    let mut builder = Search::of(measured.dense.clone()).options(options).device(measured.device);
    if let Some(weights) = weights {
        builder = builder.weights(weights);
    }
    match searches {
        true => builder.budget(Budget::macs_share(0.5)).build().map(RefCell::new),
        false => builder.build().map(RefCell::new),
    }
}

type Step<A> = RefCell<Search<A>>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(5);
    let device = device::parse(&std::env::var("OFB_TEST_DEVICE").unwrap_or("cpu".into()))?;
    match words.iter().any(|word| word == "swin") {
        true => measure(&Measured { dense: SwinConfig::tiny(), name: "Swin-T", device, rounds }),
        false => {
            measure(&Measured { dense: VitConfig::deit_small(), name: "DeiT-S", device, rounds })
        }
    }
}

fn measure<A: Architecture>(own: &Measured<A>) -> Result<()> {
    let Measured { name, device, rounds, .. } = *own;
    let plain = build(own, SearchOptions::training(STEPS), None)?;
    let dense = plain.borrow().supernet().raw_weights();
    let (ours, learned) = (SearchOptions::new(STEPS, STEPS), SearchOptions::learned(STEPS, STEPS));
    let paper = SearchOptions::paper(STEPS, STEPS);
    let half = ours.clone().with(|options| options.training.precision = Precision::Bf16);
    let teacher_in_bf16 = ours.clone().with(|options| {
        if let Some(teacher) = &mut options.training.distillation {
            teacher.precision = Some(Precision::Bf16);
        }
    });
    let alone = learned.clone().with(|options| options.pmim = None);
    let steps = [
        ("plain training step", plain),
        ("search step without teacher", build(own, ours.clone(), None)?),
        ("search step (default)", build(own, ours, Some(&dense))?),
        ("search step, teacher in bf16", build(own, teacher_in_bf16, Some(&dense))?),
        ("search step (default), bf16", build(own, half, Some(&dense))?),
        ("learned α, no PMIM", build(own, alone, None)?),
        ("learned α", build(own, learned, None)?),
        ("learned α, PMIM as in the paper", build(own, paper, None)?),
    ];
    let batches = [batch(device)?];
    // The first step is logged and creates AdamW's moments, so it is not measured.
    for (_, warmed) in &steps {
        warmed.borrow_mut().step(&batches, &mut ())?;
    }
    let search = &steps[6].1;
    let gradients = search.borrow().gradients(&batches)?.parameters()?;
    let parts = || gates(search.borrow().supernet(), &gradients);
    let step = |at: usize| steps[at].1.borrow_mut().step(&batches, &mut ());
    let times = latency_rounds(
        &[
            &parts,
            &|| step(0),
            &|| step(1),
            &|| step(2),
            &|| step(3),
            &|| step(4),
            &|| step(5),
            &|| step(6),
            &|| step(7),
        ],
        rounds,
        device,
    )?;
    println!(
        "{name}, batch size {}, {device:?}, {rounds} alternating rounds: medians (quartiles)",
        batch_size(device)
    );
    let names =
        ["gates, pull-back, one-hot"].into_iter().chain(steps.iter().map(|(name, _)| *name));
    for (name, time) in names.zip(&times) {
        let ratios = time.iter().zip(&times[1]).map(|(own, plain)| 100.0 * own / plain);
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        let quartile = |number: usize| ratios[number * ratios.len() / 4];
        let (low, high) = (quartile(1), quartile(3));
        let (ms, share) = (median(time.clone()), median(ratios));
        println!("{name:<32} {ms:9.1} ms, {share:5.1} % of plain ({low:.1} to {high:.1})");
    }
    for (at, (name, _)) in steps.iter().enumerate().filter(|(at, _)| [0, 2].contains(at)) {
        match peak_memory(&|| step(at).map(drop), device)? {
            Some(bytes) => println!("{name:<32} {:9.1} MiB at most", bytes as f64 / 1048576.0),
            None => println!("{name:<32} memory not measured on this device"),
        }
    }
    Ok(())
}
