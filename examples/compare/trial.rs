//! One dense network, and the result of each method on it.

use crate::methods::Named;
use crate::row::{Point, Row};
use crate::terms;
use crate::Options;
use cpu_time::ProcessTime;
use once_for_both::batch::BatchSource;
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::pipeline::{Feed, FeedBatches, Judgement};
use once_for_both::search::{Checkpoints, Event, Phase, Search, SearchOptions};
use once_for_both::space::{Candidates, Size};
use once_for_both::subnet::{Subnet, SubnetTeacher};
use once_for_both::supernet::{DimensionState, Weights};
use once_for_both::Result;
use std::time::{Duration, Instant};
use tch::{Device, Kind};

/// Any error.
pub type AnyError = Box<dyn std::error::Error>;

/// Test images that an extraction is verified on.
const CALIBRATION: i64 = 64;
/// Seeds of the batches of dense training, and of search and fine-tuning.
const DENSE_SEED: u64 = 7;
const SEARCH_SEED: u64 = 8;

/// The dense network and the data that all methods start from.
pub struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) feed: Feed,
    pub(crate) network: VitConfig,
    weights: Weights,
    /// Checksum of the weights.
    pub(crate) checksum: String,
    pub dense_top1: f64,
    pub(crate) device: Device,
}

impl<'a> Bench<'a> {
    /// Loads the dense network, or trains it.
    pub fn new(options: &'a Options, feed: Feed, device: Device) -> Result<Self> {
        let dense = match &options.weights {
            Some(folder) => Subnet::<VitConfig>::load(folder, device)?,
            None => trained(options, &feed, device)?,
        };
        let dense_top1 = feed.top1(|images| dense.predict(images))?;
        let weights = dense.weights().iter();
        let weights = weights.map(|(name, weight)| (name.clone(), weight.shallow_clone()));
        let (network, weights) = (dense.architecture().clone(), weights.collect());
        let checksum = terms::checksum(&weights)?;
        Ok(Self { options, feed, network, weights, checksum, dense_top1, device })
    }

    /// Returns the sizes of the dense network, in the order of [`Row::sizes`].
    pub fn dense_sizes(&self) -> Vec<i64> {
        let blocks = self.network.blocks.iter();
        let blocks = blocks.flat_map(|block| [block.heads, block.head_dim, block.hidden_dim]);
        std::iter::once(self.network.embed_dim).chain(blocks).collect()
    }

    /// Searches and fine-tunes by one method.
    pub fn run(&self, method: Named, share: f64, seed: u64) -> Result<Row, AnyError> {
        let started = ProcessTime::now();
        let row = match method {
            Named::Scratch => self.scratch(share, seed)?,
            searched => self.search_and_finetune(searched, share, seed)?,
        };
        Ok(Row { cpu_seconds: started.elapsed().as_secs_f64(), ..row })
    }

    fn search_and_finetune(&self, method: Named, share: f64, seed: u64) -> Result<Row, AnyError> {
        let mut components = method.components();
        if self.options.distil > 0.0 {
            let dense = Subnet::new(self.network.clone(), &self.weights, self.device)?;
            components = components.with_teacher(SubnetTeacher::new("dense", dense));
        }
        let mut search = Search::of(self.network.clone())
            .weights(&self.weights)
            .budget(Budget::macs_share(share))
            .options(self.search_options(method, seed)?)
            .components(components)
            .device(self.device)
            .build()?;
        if method == Named::RandomSizes {
            draw_sizes(&mut search, seed)?;
        }
        let start = search.supernet().states().iter().map(Start::new).collect::<Result<_>>()?;
        let mut watch = Watch { start, ..Watch::default() };
        self.search(&mut search, &mut watch, seed)?;
        let (decided, mut curve) = (search.steps_done(), Vec::new());
        for after in self.options.curve.iter().copied().chain([self.options.steps - decided]) {
            let mut batches = self.batches(seed)?;
            while search.steps_done() < decided + after && !search.is_done() {
                search.step(&[batches.batch(search.steps_done())?], &mut ())?;
            }
            let judged = search
                .evaluate(|supernet| self.feed.judge(|images| supernet.network_logits(images)))?;
            curve.push(Point { after, nll: judged.mean_nll(), top1: judged.top1() });
        }
        let top1_searched = curve[0].top1;
        let row = Row { top1_searched, curve, ..Row::new(method, share, seed) };
        Ok(self.conclude(&mut search, watch, row)?)
    }

    /// The batches of search and fine-tuning.
    pub(crate) fn batches(&self, seed: u64) -> Result<FeedBatches<'_>> {
        self.feed.batches(self.options.batch, SEARCH_SEED + 1000 * seed)
    }

    /// Steps until the search ends, and times plain training steps in between.
    fn search(&self, search: &mut Search<VitConfig>, watch: &mut Watch, seed: u64) -> Result<()> {
        let mut batches = self.batches(seed)?;
        let mut options = SearchOptions::training(self.options.steps);
        options.training.precision = self.options.precision();
        let interval = self.options.plain_interval;
        let plain = Search::of(self.network.clone()).weights(&self.weights);
        let mut plain = plain.options(options).device(self.device).build()?;
        while search.phase() == Phase::Search {
            let step = search.steps_done();
            let batch = [batches.batch(step)?];
            let started = Instant::now();
            let jump = &mut watch.jump;
            let mut listener = |event: &Event| {
                if let Event::Pruned(pruned) = event {
                    *jump = jump.max(pruned.total_jump / pruned.logit_scale);
                }
                Ok(())
            };
            search.step(&batch, &mut listener)?;
            watch.searched.push(started.elapsed());
            if interval > 0 && step.is_multiple_of(interval) {
                let started = Instant::now();
                plain.step(&batch, &mut ())?;
                watch.plain.push(started.elapsed());
            }
        }
        Ok(())
    }

    pub(crate) fn judge(&self, search: &mut Search<VitConfig>) -> Result<Judgement> {
        search.evaluate(|supernet| self.feed.judge(|images| supernet.network_logits(images)))
    }

    fn conclude(&self, search: &mut Search<VitConfig>, watch: Watch, row: Row) -> Result<Row> {
        let subnet = search.extract(&self.feed.calibration_batch(CALIBRATION)?)?;
        let dense = self.network.cost_model().dense_cost(Metric::Macs)?;
        let blocks = &subnet.architecture().blocks;
        let search_seconds = watch.searched.iter().sum::<Duration>().as_secs_f64();
        let steps = watch.searched.len() as f64;
        Ok(Row {
            macs: subnet.macs()? / dense,
            top1: self.feed.top1(|images| subnet.predict(images))?,
            search_seconds,
            step_ratio: mean(&watch.plain).map(|plain| search_seconds / steps / plain),
            jump: watch.jump,
            start_bias: start_bias(&watch.start, search)?,
            embed_dim: subnet.architecture().embed_dim,
            blocks: blocks.iter().map(|b| [b.heads, b.head_dim, b.hidden_dim]).collect(),
            ..row
        })
    }
}

/// Trains the dense network, or resumes from the folder of `--dense`.
fn trained(options: &Options, feed: &Feed, device: Device) -> Result<Subnet<VitConfig>> {
    let [channels, side, _] = feed.image_shape();
    let network = VitConfig::uniform(96, 4, 4).input(side, channels, 4).classes(feed.classes());
    let checkpoints = options.dense.as_ref().map(|folder| Checkpoints::new(folder, 1));
    let saved = match &checkpoints {
        Some(checkpoints) => {
            // Before the network is trained.
            checkpoints.claim()?;
            checkpoints.resume(device)?
        }
        None => None,
    };
    let training = SearchOptions::training(options.dense_steps).peak_rate(options.dense_lr);
    let mut dense = match saved {
        Some(saved) => saved.search,
        None => Search::of(network).options(training).device(device).build()?,
    };
    dense.train(&mut feed.batches(options.batch, DENSE_SEED)?, &mut ())?;
    if let Some(checkpoints) = &checkpoints {
        checkpoints.save(&dense)?;
    }
    Ok(dense.extract(&feed.calibration_batch(CALIBRATION)?)?.subnet)
}

/// Initial α of one dimension.
struct Start {
    candidates: Candidates,
    alpha: Vec<f64>,
}

impl Start {
    fn new(state: &DimensionState) -> Result<Self> {
        let alpha = state.alpha.f_detach()?.f_flatten(0, -1)?.f_to_kind(Kind::Double)?;
        let alpha = Vec::try_from(alpha.f_to_device(Device::Cpu)?)?;
        Ok(Self { candidates: state.candidates().clone(), alpha })
    }

    /// Returns the standard score of the initial α of the candidate of this size.
    fn score(&self, size: Size) -> Option<f64> {
        let candidate = self.candidates.sizes().position(|own| own == size)?;
        let n = self.alpha.len() as f64;
        let mean = self.alpha.iter().sum::<f64>() / n;
        let std = (self.alpha.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / n).sqrt();
        (std > 0.0).then(|| (self.alpha[candidate] - mean) / std)
    }
}

fn start_bias(start: &[Start], search: &Search<VitConfig>) -> Result<Option<f64>> {
    let states = search.supernet().states().iter();
    let scores: Option<Vec<f64>> = start
        .iter()
        .zip(states)
        .map(|(start, state)| start.score(state.candidates().full()))
        .collect();
    Ok(scores.map(|scores| scores.iter().sum::<f64>() / scores.len().max(1) as f64))
}

/// Times and jumps of a search.
#[derive(Default)]
struct Watch {
    searched: Vec<Duration>,
    plain: Vec<Duration>,
    jump: f64,
    start: Vec<Start>,
}

fn mean(times: &[Duration]) -> Option<f64> {
    let sum = times.iter().sum::<Duration>().as_secs_f64();
    (!times.is_empty()).then(|| sum / times.len() as f64)
}

/// Draws α from a standard normal, so that projection onto the budget chooses random sizes.
fn draw_sizes(search: &mut Search<VitConfig>, seed: u64) -> Result<()> {
    once_for_both::randomness::seed(1000 + seed);
    for state in search.supernet_mut().states_mut() {
        let alpha = state.alpha.f_randn_like()?;
        state.set_alpha(&alpha)?;
    }
    Ok(())
}
