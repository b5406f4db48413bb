//! A small run as a real one is: dense training, then a search with fine-tuning.

use crate::support::{test_device, TestResult};
use once_for_both::cost::{Budget, Metric};
use once_for_both::data::idx::{IdxImages, Split};
use once_for_both::data::{Augmentation, ImageSet, Normalisation, ShuffledBatches};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::report::{NetworkFigures, Report, Sample, Stage};
use once_for_both::search::{Event, Search, SearchOptions};
use once_for_both::subnet::{FoldingExtractor, LatencyComparison, SubnetExtractor};
use once_for_both::supernet::Weights;
use std::path::Path;
use tch::{Kind, Tensor};

pub const DENSE_STEPS: u64 = 40;
pub const STEPS: u64 = 100;
pub const SEARCH: u64 = 70;

/// As deep as DeiT-S, so that the page has as many blocks to show.
pub fn vit() -> VitConfig {
    VitConfig::uniform(48, 12, 6).input(28, 1, 7).classes(10)
}

pub struct Data {
    pub set: ImageSet,
    pub pixels: Normalisation,
}

/// The images of the examples.
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

    fn top1(&self, session: &mut Search<VitConfig>) -> TestResult<f64> {
        session.materialise()?;
        Ok(self.set.top1(200, |images| session.supernet().network_logits(images))?)
    }
}

/// Steps a session to its end; every tenth step it is measured, and `look` may look at it.
fn drive(
    session: &mut Search<VitConfig>,
    data: &Data,
    mut look: impl FnMut(&Search<VitConfig>) -> TestResult,
) -> TestResult<Vec<Event>> {
    let mut batches = ShuffledBatches::new(&data.set, 16, 1, Augmentation { pad: 2, flip: true })?;
    let mut events = Vec::new();
    while !session.is_done() {
        look(session)?;
        let batch = batches.at(session.steps_done())?;
        let mut record = |event: &Event| {
            events.push(event.clone());
            Ok(())
        };
        session.step(&[batch], &mut record)?;
        let step = session.steps_done();
        if step.is_multiple_of(20) {
            events.push(Event::Evaluated { step, top1: data.top1(session)? });
        }
    }
    Ok(events)
}

fn begin(weights: Option<&Weights>, options: SearchOptions) -> TestResult<Search<VitConfig>> {
    let mut options = options.peak_rate(2e-3);
    options.log_interval = 1;
    options.prune_interval = 5;
    options.fade_out_steps = 4.min(options.search_steps / 2);
    let budgets = match options.search_steps {
        0 => vec![],
        _ => vec![Budget::share(Metric::Macs, 0.5, &vit().cost_model())?],
    };
    let space = vit().space()?;
    Ok(Search::new(vit(), space, weights, budgets, options, test_device())?)
}

/// Runs all of it, and tells.
pub fn run() -> TestResult<Report> {
    let data = data()?;
    let mut dense = begin(None, SearchOptions::training(DENSE_STEPS))?;
    let dense_events = drive(&mut dense, &data, |_| Ok(()))?;
    let weights = dense.supernet().raw_weights();
    let mut session = begin(Some(&weights), SearchOptions::new(STEPS, SEARCH))?;
    let (images, mut samples) = (data.first(2)?, Vec::new());
    let events = drive(&mut session, &data, |session| {
        if [10, SEARCH - 10].contains(&session.steps_done()) {
            let painted = session.reconstruct_hiding(&images, 0.4)?;
            let label = |at| format!("test image {at}, step {}", session.steps_done());
            samples.extend(Sample::of(&painted, &data.pixels, label)?);
        }
        Ok(())
    })?;
    let subnet = FoldingExtractor.extract(session.supernet())?;
    let latency = [1, 32].into_iter().map(|batch| -> TestResult<LatencyComparison> {
        let images = data.first(batch)?;
        let dense = |images: &Tensor| dense.supernet().network_logits(images);
        Ok(LatencyComparison::measure(&dense, &|images| subnet.predict(images), &images, 5)?)
    });
    Ok(Report {
        title: "A small ViT on a part of Fashion-MNIST".into(),
        facts: vec![
            ("images".into(), "1,000 of 28 × 28".into()),
            ("seed".into(), session.options().seed.to_string()),
            ("device".into(), format!("{:?}", test_device())),
        ],
        latency: latency.collect::<TestResult<_>>()?,
        dense: Some(NetworkFigures::of(&vit())?.top1(data.top1(&mut dense)?)),
        subnet: Some(NetworkFigures::of(subnet.architecture())?.top1(data.top1(&mut session)?)),
        budgets: session.budgets().to_vec(),
        samples,
        config: serde_json::to_string_pretty(session.options())?,
        stages: vec![
            Stage { name: "dense".into(), steps: Some(DENSE_STEPS), events: dense_events },
            Stage { name: "search".into(), steps: Some(STEPS), events },
        ],
    })
}

/// What was known of the run after so many steps of the search.
pub fn as_of(report: &Report, step: u64) -> Report {
    let mut early = report.clone();
    (early.subnet, early.latency) = (None, Vec::new());
    early.samples.truncate(2);
    if let Some(search) = early.stages.last_mut() {
        search.events.retain(|event| event.is_before(step));
    }
    early
}
