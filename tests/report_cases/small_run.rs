//! Report of a small run: dense training, then a search with fine-tuning.

use crate::support::{test_device, TestResult};
use once_for_both::cost::Budget;
use once_for_both::data::idx::{IdxImages, Split};
use once_for_both::data::{Augmentation, ImageSet, Normalisation, ShuffledBatches};
use once_for_both::models::VitConfig;
use once_for_both::report::{NetworkFigures, Report, Sample, Stage};
use once_for_both::search::{Event, Search, SearchOptions};
use once_for_both::subnet::LatencyComparison;
use once_for_both::supernet::Weights;
use std::path::Path;
use tch::{Kind, Tensor};

pub const DENSE_STEPS: u64 = 40;
pub const STEPS: u64 = 100;
pub const SEARCH: u64 = 70;

/// As many blocks as DeiT-S, so that the page is as long.
pub fn vit() -> VitConfig {
    VitConfig::uniform(48, 12, 6).input(28, 1, 7).classes(10)
}

pub struct Data {
    pub set: ImageSet,
    pub pixels: Normalisation,
}

/// The test images of the examples, normalised.
pub fn data() -> TestResult<Data> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let images = IdxImages::open_split(&folder, Split::Test)?;
    let set = ImageSet::from_idx(images, 10, test_device())?;
    let (mean, std) = set.pixel_statistics()?;
    let pixels = Normalisation { mean: vec![mean], std: vec![std] };
    Ok(Data { set: set.normalised(mean, std)?, pixels })
}

impl Data {
    pub fn first(&self, count: i64) -> TestResult<Tensor> {
        let indices = Tensor::f_arange(count, (Kind::Int64, test_device()))?;
        Ok(self.set.select(&indices)?.0)
    }

    fn top1(&self, search: &mut Search<VitConfig>) -> TestResult<f64> {
        search.materialise()?;
        Ok(self.set.top1(200, |images| search.supernet().network_logits(images))?)
    }
}

/// Steps a search to its end and evaluates every twentieth step; `before_step` is called before
/// each step.
fn train(
    search: &mut Search<VitConfig>,
    data: &Data,
    mut before_step: impl FnMut(&Search<VitConfig>) -> TestResult,
) -> TestResult<Vec<Event>> {
    let mut batches = ShuffledBatches::new(&data.set, 16, 1, Augmentation { pad: 2, flip: true })?;
    let mut events = Vec::new();
    while !search.is_done() {
        before_step(search)?;
        let batch = batches.at(search.steps_done())?;
        let mut record = |event: &Event| {
            events.push(event.clone());
            Ok(())
        };
        search.step(&[batch], &mut record)?;
        let step = search.steps_done();
        if step.is_multiple_of(20) {
            events.push(Event::Evaluated { step, top1: data.top1(search)? });
        }
    }
    Ok(events)
}

fn build(weights: Option<&Weights>, options: SearchOptions) -> TestResult<Search<VitConfig>> {
    let options = options.peak_rate(2e-3).with(|o| {
        o.log_interval = 1;
        o.pruning.interval = 5;
        o.pruning.fade_out_steps = 4.min(o.search_steps / 2);
    });
    let budget = (options.search_steps > 0).then(|| Budget::macs_share(0.5));
    let mut builder = Search::of(vit()).budgets(budget).options(options).device(test_device());
    if let Some(weights) = weights {
        builder = builder.weights(weights);
    }
    Ok(builder.build()?)
}

/// Runs dense training and search, and returns their report.
pub fn run() -> TestResult<Report> {
    let data = data()?;
    let mut dense = build(None, SearchOptions::training(DENSE_STEPS))?;
    let dense_events = train(&mut dense, &data, |_| Ok(()))?;
    let weights = dense.supernet().raw_weights();
    let mut search = build(Some(&weights), SearchOptions::learned(STEPS, SEARCH))?;
    let (images, mut samples) = (data.first(2)?, Vec::new());
    let events = train(&mut search, &data, |search| {
        if [10, SEARCH - 10].contains(&search.steps_done()) {
            let reconstruction = search.reconstruct_masking(&images, 0.4)?;
            let label = |at| format!("test image {at}, step {}", search.steps_done());
            samples.extend(Sample::of(&reconstruction, &data.pixels, label)?);
        }
        Ok(())
    })?;
    let subnet = search.extract(&images)?;
    let latency = [1, 32].into_iter().map(|batch| -> TestResult<LatencyComparison> {
        let images = data.first(batch)?;
        let dense = |images: &Tensor| dense.supernet().network_logits(images);
        Ok(LatencyComparison::measure(&dense, &|images| subnet.predict(images), &images, 5)?)
    });
    Ok(Report {
        title: "A small ViT on a part of Fashion-MNIST".into(),
        facts: vec![
            ("images".into(), "1,000 of 28 × 28 pixels".into()),
            ("seed".into(), search.options().seed.to_string()),
            ("device".into(), format!("{:?}", test_device())),
        ],
        latency: latency.collect::<TestResult<_>>()?,
        dense: Some(NetworkFigures::of(&vit())?.top1(data.top1(&mut dense)?)),
        subnet: Some(NetworkFigures::of(subnet.architecture())?.top1(data.top1(&mut search)?)),
        budgets: search.limits().to_vec(),
        latency_model: None,
        samples,
        sensitivity: None,
        config: serde_json::to_string_pretty(search.options())?,
        stages: vec![
            Stage { name: "dense training".into(), steps: Some(DENSE_STEPS), events: dense_events },
            Stage { name: "search".into(), steps: Some(STEPS), events },
        ],
    })
}

/// The report as it was after `step` steps of the search.
pub fn as_of(report: &Report, step: u64) -> Report {
    let mut early = report.clone();
    (early.subnet, early.latency) = (None, Vec::new());
    early.samples.truncate(2);
    if let Some(search) = early.stages.last_mut() {
        search.events.retain(|event| event.is_before(step));
    }
    early
}
