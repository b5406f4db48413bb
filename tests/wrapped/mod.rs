//! What the tests of wrapped networks share: a short search of a network that cannot shrink.

mod dinov2;
mod odd;
mod own;
mod torchscript;

use crate::support::{test_device, TestResult};
use once_for_both::batch::Targets;
use once_for_both::cost::{Budget, Metric};
use once_for_both::data::Batch;
use once_for_both::models::VitConfig;
use once_for_both::search::{Event, Search, SearchOptions};
use once_for_both::subnet::{extract_into, verify, ExtractInto, Subnet, Verification};
use once_for_both::supernet::Weights;
use once_for_both::Error;
use tch::{nn, Kind, Tensor};

/// Images and classes of a step, whoever asks.
pub struct Batches {
    pub count: i64,
    pub side: i64,
    pub classes: i64,
}

impl Batches {
    pub fn at(&self, step: u64) -> TestResult<Batch> {
        tch::manual_seed(1000 + step as i64);
        let (device, count) = (test_device(), self.count);
        let images = Tensor::f_randn([count, 3, self.side, self.side], (Kind::Float, device))?;
        let classes = Tensor::f_randint(self.classes, [count], (Kind::Int64, device))?;
        Ok(Batch { images, targets: Targets::Classes(classes), hidden: None })
    }
}

/// Fast enough for candidates to go within a few steps.
pub fn options(steps: u64, search: u64) -> SearchOptions {
    let mut options = SearchOptions::new(steps, search).seed(5);
    options.pmim = None;
    options.log_interval = 1;
    options.prune_interval = 1;
    options.fade_out_steps = 1;
    options.optimiser.alpha_rate = 2.0;
    options
}

pub fn session<A: ExtractInto>(
    network: &A,
    weights: Option<&Weights>,
    options: SearchOptions,
) -> TestResult<Search<A>> {
    let budgets = vec![Budget::share(Metric::Macs, 0.6, &network.cost_model())?];
    let (network, space) = (network.clone(), network.space()?);
    Ok(Search::new(network, space, weights, budgets, options, test_device())?)
}

pub fn run<A: ExtractInto>(
    session: &mut Search<A>,
    batches: &Batches,
    until: u64,
) -> TestResult<Vec<Event>> {
    let mut events = Vec::new();
    let mut record = |event: &Event| {
        events.push(event.clone());
        Ok(())
    };
    while session.steps_done() < until {
        session.step(&[batches.at(session.steps_done())?], &mut record)?;
    }
    Ok(events)
}

/// Extracts; the subnet keeps the budget, is smaller than the dense network, and answers what the
/// masked network answers.
pub fn extract<A: ExtractInto<Target = VitConfig>>(
    session: &mut Search<A>,
    batches: &Batches,
) -> TestResult<(Subnet<VitConfig>, Verification)> {
    session.materialise()?;
    let supernet = session.supernet();
    assert!(supernet.is_decided() && !supernet.shrinks());
    let subnet = extract_into(supernet)?;
    let verification = verify(supernet, &subnet, &batches.at(999)?.images)?;
    assert!(subnet.macs()? <= session.budgets()[0].limit);
    let sizes = supernet.sizes();
    assert_eq!(subnet.macs()?, supernet.cost_model().cost(Metric::Macs, &sizes)?);
    let dense = supernet.architecture().cost_model().dense;
    assert!(dense.iter().any(|(name, size)| sizes.get(name).is_some_and(|own| own != size)));
    Ok((subnet, verification))
}

/// Names of the variables that a ViT has.
pub fn variables(vit: &VitConfig) -> once_for_both::Result<Vec<String>> {
    let store = nn::VarStore::new(tch::Device::Cpu);
    once_for_both::models::Architecture::build(vit, &store.root())?;
    Ok(store.variables().into_keys().collect())
}

pub fn missing(name: &str, weights: &Weights) -> Error {
    let known = weights.keys().cloned().collect::<Vec<_>>().join(", ");
    Error::Unknown { kind: "weight", name: name.into(), known }
}
