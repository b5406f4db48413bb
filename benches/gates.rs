//! What masking costs: all gates of DeiT-S, their gradients pulled back, and the one-hot losses,
//! against a plain DeiT-S training step at batch 8; and a whole search step against it.
//!
//! `cargo bench --bench gates`, with the number of rounds as an argument (default 5).

use once_for_both::components::{AdaptiveOneHotLoss, EntropyVarianceLoss, Targets};
use once_for_both::cost::{Budget, Metric};
use once_for_both::data::Batch;
use once_for_both::device;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::report::compare_latency;
use once_for_both::search::{Event, Precision, Search, SearchOptions};
use once_for_both::space::SearchSpace;
use once_for_both::supernet::{Supernet, Weights};
use once_for_both::Result;
use std::candidate::RefCell;
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 8;

fn batch(device: Device) -> Result<Batch> {
    let images = Tensor::f_randn([BATCH, 3, 224, 224], (Kind::Float, device))?;
    let classes = Tensor::f_randint(1000, [BATCH], (Kind::Int64, device))?;
    Ok(Batch { images, targets: Targets::Classes(classes), hidden: None })
}

/// Everything a step does for the sake of masks: gates of 25 dimensions, θ ⊙ gates, the gradients
/// of θ, gates, scores and α, and the one-hot losses with theirs.
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

fn session(search: bool, precision: Precision, device: Device) -> Result<Search<VitConfig>> {
    let network = VitConfig::deit_small();
    let steps = 1_000_000;
    let (space, budgets, mut options) = if search {
        let budget = Budget::share(Metric::Macs, 0.5, &network.cost_model())?;
        (network.space()?, vec![budget], SearchOptions::new(steps, steps))
    } else {
        (SearchSpace::empty(), vec![], SearchOptions::training(steps))
    };
    options.log_interval = steps;
    options.precision = precision;
    Search::new(network, space, None, budgets, options, device)
}

fn main() -> Result<()> {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5);
    let device = device::parse(&std::env::var("OFB_TEST_DEVICE").unwrap_or("cpu".into()))?;
    let full = |search| session(search, Precision::Full, device);
    let (plain, search) = (RefCell::new(full(false)?), RefCell::new(full(true)?));
    let half = RefCell::new(session(true, Precision::Bf16, device)?);
    let batches = [batch(device)?];
    let silent = |_: &Event| Ok(());
    let mut quiet = silent;
    // The first step is logged; it also makes the optimisers' moments.
    plain.borrow_mut().step(&batches, &mut quiet)?;
    search.borrow_mut().step(&batches, &mut quiet)?;
    half.borrow_mut().step(&batches, &mut quiet)?;
    let gradients = search.borrow().gradients(&batches)?.parameters;

    let times = compare_latency(
        &[
            &|| plain.borrow_mut().step(&batches, &mut { silent }),
            &|| gates(search.borrow().supernet(), &gradients),
            &|| search.borrow_mut().step(&batches, &mut { silent }),
            &|| half.borrow_mut().step(&batches, &mut { silent }),
        ],
        rounds,
        device,
    )?;
    let [plain, gates, search, half] = [0, 1, 2, 3].map(|at| times[at].median_ms);
    println!("DeiT-S at batch {BATCH} on {device:?}, median of {rounds} rounds in turn");
    println!("plain training step       {plain:9.1} ms");
    println!("gates, pull-back, one-hot {gates:9.1} ms   {:5.2} % of it", 100.0 * gates / plain);
    println!("search step with PMIM     {search:9.1} ms   {:5.2} times it", search / plain);
    println!("the same in bf16          {half:9.1} ms   {:5.2} times it", half / plain);
    Ok(())
}
