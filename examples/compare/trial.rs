//! One dense network, and what each method makes of it.

use crate::data::{Data, CLASSES};
use crate::methods::Named;
use crate::row::Row;
use crate::terms;
use crate::Options;
use cpu_time::ProcessTime;
use once_for_both::cost::{Budget, Metric};
use once_for_both::data::{Augmentation, ShuffledBatches};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Checkpoints, Event, Phase, Search, SearchOptions};
use once_for_both::space::{Candidates, SearchSpace, Size};
use once_for_both::subnet::{verify, FoldingExtractor, Subnet, SubnetExtractor};
use once_for_both::supernet::{DimensionState, Weights};
use once_for_both::Result;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Any error there is.
pub type AnyError = Box<dyn std::error::Error>;

const AUGMENTATION: Augmentation = Augmentation { pad: 2, flip: true };

/// What all methods start from.
pub struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) data: Data,
    pub(crate) network: VitConfig,
    weights: Weights,
    /// Of these weights.
    pub(crate) checksum: String,
    pub dense_top1: f64,
    pub(crate) device: Device,
}

impl<'a> Bench<'a> {
    /// Trains the dense network, or takes up the one kept in a folder.
    pub fn new(options: &'a Options, data: Data, device: Device) -> Result<Self> {
        if let Some(folder) = &options.weights {
            let dense = Subnet::<VitConfig>::load(folder, device)?;
            let dense_top1 = data.judge.top1(500, |images| dense.predict(images))?;
            let weights = dense.weights().iter();
            let weights = weights.map(|(name, weight)| (name.clone(), weight.shallow_clone()));
            let (network, weights) = (dense.architecture().clone(), weights.collect());
            let checksum = terms::checksum(&weights)?;
            return Ok(Self { options, data, network, weights, checksum, dense_top1, device });
        }
        let network = VitConfig::uniform(96, 4, 4).input(28, 1, 4).classes(CLASSES as i64);
        let kept = match &options.dense {
            Some(folder) => Checkpoints::new(folder, 1).resume(device)?,
            None => None,
        };
        let mut dense = match kept {
            Some(kept) => kept.session,
            None => {
                let training =
                    SearchOptions::training(options.dense_steps).peak_rate(options.dense_lr);
                plain(&network, None, training, device)?
            }
        };
        let mut batches = ShuffledBatches::new(&data.train, options.batch, 7, AUGMENTATION)?;
        while !dense.is_done() {
            dense.step(&[batches.at(dense.steps_done())?], &mut |_: &Event| Ok(()))?;
        }
        if let Some(folder) = &options.dense {
            Checkpoints::new(folder, 1).save(&dense)?;
        }
        dense.materialise()?;
        let dense_top1 = data.judge.top1(500, |images| dense.supernet().network_logits(images))?;
        let weights = dense.supernet().folded_weights();
        let checksum = terms::checksum(&weights)?;
        Ok(Self { options, data, network, weights, checksum, dense_top1, device })
    }

    /// Sizes of the dense network, in the order of [`Row::sizes`].
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
        let budget = Budget::share(Metric::Macs, share, &self.network.cost_model())?;
        let space = self.network.space()?;
        let options = self.search_options(method, seed)?;
        let (network, weights) = (self.network.clone(), Some(&self.weights));
        let mut session = Search::new(network, space, weights, vec![budget], options, self.device)?;
        if method == Named::RandomSizes {
            draw_sizes(&mut session, seed)?;
        }
        let start = session.supernet().states().iter().map(Start::new).collect::<Result<_>>()?;
        let mut watch = Watch { start, ..Watch::default() };
        self.search(&mut session, &mut watch)?;
        let top1_searched = self.top1(&mut session)?;
        self.finetune(&mut session)?;
        let row = Row { top1_searched, ..Row::new(method, share, seed) };
        Ok(self.conclude(&session, watch, row)?)
    }

    pub(crate) fn batches(&self) -> Result<ShuffledBatches<'_>> {
        ShuffledBatches::new(&self.data.train, self.options.batch, 8, AUGMENTATION)
    }

    fn search(&self, session: &mut Search<VitConfig>, watch: &mut Watch) -> Result<()> {
        let mut batches = self.batches()?;
        let mut training = SearchOptions::training(self.options.steps);
        training.precision = self.options.precision();
        let interval = self.options.plain_interval;
        let mut beside = plain(&self.network, Some(&self.weights), training, self.device)?;
        while session.phase() == Phase::Search {
            let step = session.steps_done();
            let batch = [batches.at(step)?];
            let started = Instant::now();
            let jump = &mut watch.jump;
            let mut notice = |event: &Event| {
                if let Event::Pruned(cut) = event {
                    *jump = jump.max(cut.total_jump / cut.logit_scale);
                }
                Ok(())
            };
            session.step(&batch, &mut notice)?;
            watch.searched.push(started.elapsed());
            if interval > 0 && step.is_multiple_of(interval) {
                let started = Instant::now();
                beside.step(&batch, &mut |_: &Event| Ok(()))?;
                watch.plain.push(started.elapsed());
            }
        }
        Ok(())
    }

    pub(crate) fn finetune(&self, session: &mut Search<VitConfig>) -> Result<()> {
        let mut batches = self.batches()?;
        while !session.is_done() {
            session.step(&[batches.at(session.steps_done())?], &mut |_: &Event| Ok(()))?;
        }
        Ok(())
    }

    pub(crate) fn top1(&self, session: &mut Search<VitConfig>) -> Result<f64> {
        session.materialise()?;
        self.data.judge.top1(500, |images| session.supernet().network_logits(images))
    }

    fn conclude(&self, session: &Search<VitConfig>, watch: Watch, row: Row) -> Result<Row> {
        let subnet = FoldingExtractor.extract(session.supernet())?;
        let some = Tensor::f_arange(self.data.judge.len().min(64), (Kind::Int64, self.device))?;
        verify(session.supernet(), &subnet, &self.data.judge.select(&some)?.0)?;
        let dense = self.network.cost_model().dense_cost(Metric::Macs)?;
        let blocks = &subnet.architecture().blocks;
        let search_seconds = watch.searched.iter().sum::<Duration>().as_secs_f64();
        let steps = watch.searched.len() as f64;
        Ok(Row {
            macs: subnet.macs()? / dense,
            top1: self.data.judge.top1(500, |images| subnet.predict(images))?,
            search_seconds,
            step_ratio: mean(&watch.plain).map(|plain| search_seconds / steps / plain),
            jump: watch.jump,
            start_bias: start_bias(&watch.start, session)?,
            embed_dim: subnet.architecture().embed_dim,
            blocks: blocks.iter().map(|b| [b.heads, b.head_dim, b.hidden_dim]).collect(),
            ..row
        })
    }
}

/// Where α of one dimension started.
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

    /// Standard score of the candidate of this size.
    fn score(&self, size: Size) -> Option<f64> {
        let candidate = self.candidates.sizes().position(|own| own == size)?;
        let n = self.alpha.len() as f64;
        let mean = self.alpha.iter().sum::<f64>() / n;
        let std = (self.alpha.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / n).sqrt();
        (std > 0.0).then(|| (self.alpha[candidate] - mean) / std)
    }
}

fn start_bias(start: &[Start], session: &Search<VitConfig>) -> Result<Option<f64>> {
    let states = session.supernet().states().iter();
    let scores: Option<Vec<f64>> = start
        .iter()
        .zip(states)
        .map(|(start, state)| start.score(state.candidates().full()))
        .collect();
    Ok(scores.map(|scores| scores.iter().sum::<f64>() / scores.len().max(1) as f64))
}

/// What is seen on the way.
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

pub(crate) fn plain(
    network: &VitConfig,
    weights: Option<&Weights>,
    options: SearchOptions,
    device: Device,
) -> Result<Search<VitConfig>> {
    Search::new(network.clone(), SearchSpace::empty(), weights, vec![], options, device)
}

/// α drawn wide apart: the most probable choice within the budget is a random one.
fn draw_sizes(session: &mut Search<VitConfig>, seed: u64) -> Result<()> {
    tch::manual_seed(1000 + seed as i64);
    for state in session.supernet_mut().states_mut() {
        let alpha = state.alpha.f_randn_like()?;
        state.set_alpha(&alpha)?;
    }
    Ok(())
}
