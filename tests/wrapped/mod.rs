//! A short search of a wrapped network that cannot be built at other sizes.

mod attention;
mod bare;
mod buffers;
mod dinov2;
mod indexed_network;
mod late_network;
mod odd;
mod own;
mod recipe_network;
mod recipes;
#[cfg(feature = "pipeline")]
mod refused_exports;
#[cfg(feature = "pipeline")]
mod runs;
mod torchscript;

use crate::support::{test_device, TestResult};
use once_for_both::batch::Batch;
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::VitConfig;
use once_for_both::search::{Event, Search, SearchOptions};
use once_for_both::subnet::{ExtractInto, Extracted, TranslatingExtractor};
use once_for_both::supernet::Weights;
use once_for_both::Error;
use tch::{nn, Kind, Tensor};

/// Random images and classes, a function of the step alone.
pub struct Batches {
    pub count: i64,
    pub side: i64,
    pub classes: i64,
}

impl Batches {
    pub fn at(&self, step: u64) -> TestResult<Batch> {
        once_for_both::randomness::seed(1000 + step);
        let (device, count) = (test_device(), self.count);
        let images = Tensor::f_randn([count, 3, self.side, self.side], (Kind::Float, device))?;
        let classes = Tensor::f_randint(self.classes, [count], (Kind::Int64, device))?;
        Ok(Batch::classes(images, classes))
    }
}

/// Fast enough for candidates to be dropped within a few steps.
pub fn options(steps: u64, search: u64) -> SearchOptions {
    SearchOptions::learned(steps, search).seed(5).with(|o| {
        o.pmim = None;
        o.log_interval = 1;
        o.pruning.interval = 1;
        o.pruning.fade_out_steps = 1;
        o.optimiser.alpha_rate = Some(2.0);
    })
}

pub fn search<A: ExtractInto>(
    network: &A,
    weights: &Weights,
    options: SearchOptions,
) -> TestResult<Search<A>> {
    let builder = Search::of(network.clone()).weights(weights).budget(Budget::macs_share(0.6));
    Ok(builder.options(options).device(test_device()).build()?)
}

pub fn run<A: ExtractInto>(
    search: &mut Search<A>,
    batches: &Batches,
    until: u64,
) -> TestResult<Vec<Event>> {
    let mut events = Vec::new();
    let mut record = |event: &Event| {
        events.push(event.clone());
        Ok(())
    };
    while search.steps_done() < until {
        search.step(&[batches.at(search.steps_done())?], &mut record)?;
    }
    Ok(events)
}

/// Extracts the subnet, which is verified, and checks that it meets the budget and is smaller than
/// the dense network.
pub fn extract<A: ExtractInto<Target = VitConfig>>(
    search: &mut Search<A>,
    batches: &Batches,
) -> TestResult<Extracted<VitConfig>> {
    let subnet = search.extract_with(&TranslatingExtractor, &batches.at(999)?.images)?;
    let supernet = search.supernet();
    assert!(supernet.is_decided() && !supernet.can_narrow());
    subnet.verification.check()?;
    assert!(subnet.macs()? <= search.limits()[0].limit);
    let sizes = supernet.sizes();
    assert_eq!(subnet.macs()?, supernet.cost_model().cost(Metric::Macs, &sizes)?);
    let dense = supernet.architecture().cost_model().dense;
    assert!(dense.iter().any(|(name, size)| sizes.get(name).is_some_and(|own| own != size)));
    Ok(subnet)
}

/// Names of a ViT's variables.
pub fn variables(vit: &VitConfig) -> once_for_both::Result<Vec<String>> {
    let store = nn::VarStore::new(tch::Device::Cpu);
    once_for_both::models::Architecture::build(vit, &store.root())?;
    Ok(store.variables().into_keys().collect())
}

pub fn missing(name: &str) -> Error {
    Error::Missing { kind: "weight", name: name.into() }
}
