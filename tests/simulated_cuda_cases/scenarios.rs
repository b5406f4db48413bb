//! Pieces of work with DeiT-S that are counted.

use super::counters::{Count, Counters};
use crate::support::{test_device, TestResult};
use once_for_both::batch::Batch;
use once_for_both::cost::Budget;
use once_for_both::data::{
    Augmentation, Dataset, Image, ImageSet, LabelledImage, Loader, LoaderOptions, ShuffledBatches,
};
use once_for_both::models::VitConfig;
use once_for_both::precision::Precision;
use once_for_both::search::{Search, SearchOptions};
use once_for_both::supernet::Weights;
use once_for_both::Result;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Steps of a run: enough that the search does not end.
const STEPS: u64 = 1_000_000;
const BATCH: i64 = 2;

/// Side of the images. The counts are those of 224 pixels: operators do not depend on the number of tokens.
const SIDE: i64 = 64;

fn deit_small() -> VitConfig {
    VitConfig::deit_small().input(SIDE, 3, 16)
}

/// Everything that is counted, by name.
pub fn all(counters: &Counters) -> TestResult<Vec<(&'static str, Count)>> {
    let learned = SearchOptions::learned(STEPS, STEPS);
    let without_pmim = learned.clone().with(|options| options.pmim = None);
    let paper = SearchOptions::paper(STEPS, STEPS);
    let ours = SearchOptions::new(STEPS, STEPS);
    let half = ours.clone().with(|options| options.training.precision = Precision::Bf16);
    let mut dense = build(SearchOptions::training(STEPS), None)?;
    let weights = dense.supernet().raw_weights();
    let [plain, ..] = steps(counters, &mut dense)?;
    drop(dense);
    let [without_pmim, ..] = steps(counters, &mut build(without_pmim, None)?)?;
    let [paper, ..] = steps(counters, &mut build(paper, None)?)?;
    let (mut search, session) = counters.count(|| build(learned, None))?;
    let [step, logged, deciding] = steps(counters, &mut search)?;
    drop(search);
    let mut search = build(ours, Some(&weights))?;
    let [our_step, our_logged, our_deciding] = steps(counters, &mut search)?;
    drop(search);
    let [half, ..] = steps(counters, &mut build(half, Some(&weights))?)?;
    let [fading, pruning] = pruning(counters, &weights)?;
    Ok(vec![
        ("plain step", plain),
        ("search step, learned, without PMIM", without_pmim),
        ("search step, paper, with PMIM", paper),
        ("search step, learned, with PMIM on a part of the images", step),
        ("logged step", logged),
        ("step with a decision", deciding),
        ("making a session", session),
        ("search step, default", our_step),
        ("logged step, default", our_logged),
        ("step with a decision, default", our_deciding),
        ("search step, default, bf16", half),
        ("step of a fade-out, default", fading),
        ("step with pruning, default", pruning),
        ("batch of the loader", batch_of_loader(counters)?),
        ("batch of images in memory", batch_in_memory(counters)?),
    ])
}

/// Every other step is logged, and a prune step follows the fourth.
fn build(options: SearchOptions, weights: Option<&Weights>) -> Result<Search<VitConfig>> {
    let searches = options.search_steps > 0;
    let options = options.with(|options| {
        options.log_interval = 2;
        options.pruning.interval = 4;
    });
    let mut builder = Search::of(deit_small()).options(options).device(test_device());
    if let Some(weights) = weights {
        builder = builder.weights(weights);
    }
    if searches {
        builder = builder.budget(Budget::macs_share(0.5));
    }
    builder.build()
}

/// Counts an ordinary step, a logged one, and one with a decision. The first step of all makes AdamW's
/// moments and is not counted.
fn steps(counters: &Counters, search: &mut Search<VitConfig>) -> TestResult<[Count; 3]> {
    let batches = [batch()?];
    search.step(&batches, &mut ())?;
    let mut count =
        || -> TestResult<Count> { Ok(counters.count(|| search.step(&batches, &mut ()))?.1) };
    Ok([count()?, count()?, count()?])
}

/// Counts the last step of the first fade-out, and the next one, which prunes its units and is logged.
fn pruning(counters: &Counters, weights: &Weights) -> TestResult<[Count; 2]> {
    let options = SearchOptions::new(40, 40).with(|options| options.pruning.fade_out_steps = 3);
    let mut search = build(options, Some(weights))?;
    let (batches, dense) = ([batch()?], search.supernet().sizes());
    let mut previous = None;
    for _ in 0..20 {
        let count = counters.count(|| search.step(&batches, &mut ()))?.1;
        match previous.replace(count) {
            Some(fading) if search.supernet().sizes() != dense => {
                return Ok([fading, previous.ok_or("no count")?]);
            }
            _ => {}
        }
    }
    Err("units pruned in 20 steps: got none, expected some".into())
}

fn batch() -> TestResult<Batch> {
    let device = test_device();
    let images = Tensor::f_randn([BATCH, 3, SIDE, SIDE], (Kind::Float, device))?;
    let classes = Tensor::f_randint(1000, [BATCH], (Kind::Int64, device))?;
    Ok(Batch::classes(images, classes))
}

/// DeiT's augmentation at 224 pixels; the second batch is counted.
pub fn batch_of_loader(counters: &Counters) -> TestResult<Count> {
    let options = LoaderOptions::deit(224, 8).seed(1).workers(1);
    let mut loader = Loader::new(Arc::new(Noise), options, test_device())?;
    loader.at(0)?;
    Ok(counters.count(|| loader.at(1))?.1)
}

/// With all augmentation; an epoch has one batch, so that the counted one has a new order.
fn batch_in_memory(counters: &Counters) -> TestResult<Count> {
    let images = Tensor::f_zeros([4, 1, 28, 28], (Kind::Uint8, test_device()))?;
    let set = ImageSet::new(images, Tensor::f_zeros([4], (Kind::Int64, test_device()))?, 10)?;
    let mut batches = ShuffledBatches::new(&set, 4, 1, Augmentation { pad: 2, flip: true })?;
    batches.at(0)?;
    Ok(counters.count(|| batches.at(1))?.1)
}

/// Sixteen images of pseudo-random bytes.
struct Noise;

impl Dataset for Noise {
    fn len(&self) -> usize {
        16
    }

    fn classes(&self) -> usize {
        4
    }

    fn channels(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }

    fn load(&self, index: usize) -> Result<LabelledImage> {
        let byte = |at: usize| ((at + 7919 * index).wrapping_mul(2_654_435_761) >> 13) as u8;
        let image = Image::new(256, 240, 3, (0..256 * 240 * 3).map(byte).collect())?;
        Ok(LabelledImage { image, class: index % 4 })
    }
}
