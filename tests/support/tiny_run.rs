//! A whole search of a tiny ViT in twelve steps.

use super::{test_device, TestResult};
use once_for_both::batch::Targets;
use once_for_both::cost::{Budget, Metric};
use once_for_both::data::Batch;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Event, Method, Search, SearchOptions};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Kind, Tensor};

/// libtorch's generator belongs to the whole process: runs that are compared must not overlap.
static GENERATOR: Mutex<()> = Mutex::new(());

pub fn alone() -> MutexGuard<'static, ()> {
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

pub const STEPS: u64 = 12;
pub const SEARCH: u64 = 8;

pub fn vit() -> VitConfig {
    VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(5)
}

/// Fast enough for candidates to go and units to be cut within eight steps.
pub fn options() -> SearchOptions {
    let mut options = SearchOptions::new(STEPS, SEARCH).seed(3);
    options.log_interval = 1;
    options.prune_interval = 1;
    options.optimiser.alpha_rate = 2.0;
    options
}

/// The same, with units that land for two steps before they are cut, and a EMA.
pub fn fade_out_options() -> SearchOptions {
    SearchOptions { fade_out_steps: 2, average: Some(0.9), ..options() }
}

pub fn session(share: f64) -> TestResult<Search<VitConfig>> {
    session_with(options(), share, Method::of)
}

pub fn session_with(
    options: SearchOptions,
    share: f64,
    method: impl FnOnce(&SearchOptions) -> once_for_both::Result<Method>,
) -> TestResult<Search<VitConfig>> {
    let (method, space) = (method(&options)?, vit().space()?);
    let budgets = vec![Budget::share(Metric::Macs, share, &vit().cost_model())?];
    Ok(Search::with_method(method, vit(), space, None, budgets, options, test_device())?)
}

/// The batch of a step, whoever asks.
pub fn batch(step: u64) -> TestResult<Batch> {
    tch::manual_seed(1000 + step as i64);
    let images = Tensor::f_randn([6, 3, 16, 16], (Kind::Float, test_device()))?;
    let classes = Tensor::f_randint(5, [6], (Kind::Int64, test_device()))?;
    Ok(Batch { images, targets: Targets::Classes(classes), hidden: None })
}

pub fn run<A: Architecture>(session: &mut Search<A>, until: u64) -> TestResult<Vec<Event>> {
    let mut events = Vec::new();
    let mut record = |event: &Event| {
        events.push(event.clone());
        Ok(())
    };
    while session.steps_done() < until {
        session.step(&[batch(session.steps_done())?], &mut record)?;
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
