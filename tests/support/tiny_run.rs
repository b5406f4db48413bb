//! A complete search of a tiny ViT in twelve steps.

use super::{test_device, TestResult};
use once_for_both::batch::Batch;
use once_for_both::cost::Budget;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Checkpoints, Event, Search, SearchBuilder, SearchOptions};
use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Kind, Tensor};

/// libtorch's generator belongs to the whole process: tests that draw from it must not overlap.
static GENERATOR: Mutex<()> = Mutex::new(());

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// The only test that draws from libtorch's generator, until it is dropped.
pub struct Alone {
    _generator: MutexGuard<'static, ()>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        ALONE.set(false);
    }
}

/// Waits until no other test draws from libtorch's generator.
pub fn alone() -> Alone {
    let _generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    ALONE.set(true);
    Alone { _generator }
}

/// Fails a test that draws from libtorch's generator while others may.
fn expect_alone() {
    assert!(
        ALONE.get(),
        "the test draws from libtorch's generator: begin with `let _alone = alone();`"
    );
}

pub const STEPS: u64 = 12;
pub const SEARCH: u64 = 8;

pub fn vit() -> VitConfig {
    VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(5)
}

/// Fast enough for candidates to be dropped and units to be pruned within eight steps.
pub fn options() -> SearchOptions {
    SearchOptions::learned(STEPS, SEARCH).seed(3).with(|o| {
        o.log_interval = 1;
        o.pruning.interval = 1;
        o.pruning.fade_out_steps = 0;
        o.optimiser.alpha_rate = Some(2.0);
    })
}

/// The same with a fade-out of two steps and an EMA.
pub fn fade_out_options() -> SearchOptions {
    options().with(|o| {
        o.pruning.fade_out_steps = 2;
        o.training.ema_decay = Some(0.9);
    })
}

pub fn search(share: f64) -> TestResult<Search<VitConfig>> {
    search_with(options(), share)
}

pub fn search_with(options: SearchOptions, share: f64) -> TestResult<Search<VitConfig>> {
    Ok(builder(options, share).build()?)
}

pub fn builder(options: SearchOptions, share: f64) -> SearchBuilder<VitConfig> {
    expect_alone();
    Search::of(vit()).budget(Budget::macs_share(share)).options(options).device(test_device())
}

/// The batch of a step: the same at every call.
pub fn batch(step: u64) -> TestResult<Batch> {
    expect_alone();
    once_for_both::randomness::seed(1000 + step);
    let images = Tensor::f_randn([6, 3, 16, 16], (Kind::Float, test_device()))?;
    let classes = Tensor::f_randint(5, [6], (Kind::Int64, test_device()))?;
    Ok(Batch::classes(images, classes))
}

pub fn run<A: Architecture>(search: &mut Search<A>, until: u64) -> TestResult<Vec<Event>> {
    let mut events = Vec::new();
    let mut record = |event: &Event| {
        events.push(event.clone());
        Ok(())
    };
    while search.steps_done() < until {
        search.step(&[batch(search.steps_done())?], &mut record)?;
    }
    Ok(events)
}

/// Events, with wall times taken out.
pub fn without_times(events: &[Event]) -> Vec<Event> {
    let mut events = events.to_vec();
    for event in &mut events {
        if let Event::Step(metrics) = event {
            metrics.step_ms = 0.0;
        }
    }
    events
}

/// Stops a search after each of these steps, resumes it from its checkpoint, and expects events and weights of the search
/// that was not stopped, bit for bit. `build` builds it from its beginning; returns the one that was not stopped.
pub fn expect_resumed_bit_exact(
    build: impl Fn() -> TestResult<Search<VitConfig>>,
    stops: &[u64],
) -> TestResult<Search<VitConfig>> {
    let mut whole = build()?;
    let expected = run(&mut whole, STEPS)?;
    for stop in stops {
        let folder = tempfile::tempdir()?;
        let mut first = build()?;
        let mut events = run(&mut first, *stop)?;
        let checkpoint = Checkpoints::new(folder.path(), 2).save(&first)?;
        let mut second = Search::<VitConfig>::resume(&checkpoint, test_device())?;
        events.extend(run(&mut second, STEPS)?);
        assert_eq!(without_times(&events), without_times(&expected), "stopped after {stop}");
        let (left, right) = (second.supernet().raw_weights(), whole.supernet().raw_weights());
        assert!(left.keys().eq(right.keys()));
        assert!(left.iter().all(|(name, own)| own.equal(&right[name])), "stopped after {stop}");
    }
    Ok(whole)
}
