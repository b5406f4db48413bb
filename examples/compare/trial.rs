//! One dense network, and what each method makes of it.

use crate::data::{Data, CLASSES};
use crate::methods::Named;
use crate::Options;
use once_for_both::cost::{Budget, Metric};
use once_for_both::data::{Augmentation, Batches};
use once_for_both::extract::{verify, FoldingExtractor, SubnetExtractor};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Checkpoints, Event, Phase, SearchOptions, Session};
use once_for_both::space::{Cells, SearchSpace, Size};
use once_for_both::supernet::{DimensionState, Weights};
use once_for_both::Result;
use serde::Serialize;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

const AUGMENTATION: Augmentation = Augmentation { pad: 2, flip: true };
/// A plain step is timed after so many of the search.
const PLAIN_INTERVAL: u64 = 10;

/// What all methods start from.
pub struct Bench<'a> {
    options: &'a Options,
    data: Data,
    network: VitConfig,
    weights: Weights,
    pub dense_top1: f64,
    device: Device,
}

/// What came of one method.
#[derive(Debug, Serialize)]
pub struct Row {
    pub method: &'static str,
    pub budget: f64,
    pub seed: u64,
    /// Share of the dense MACs reached.
    pub macs: f64,
    pub top1: f64,
    /// Top-1 at the end of the search, before fine-tuning.
    pub top1_searched: f64,
    pub search_seconds: f64,
    /// Mean search step against the plain steps between.
    pub step_ratio: f64,
    /// Largest change of a logit at a cut, as a share of the largest logit.
    pub jump: f64,
    /// Mean standard score of the starting α of the chosen cells, over all dimensions: 0 if where α
    /// started has no say. None where all started equal.
    pub start_bias: Option<f64>,
    pub embed_dim: i64,
    /// Heads, channels of a head, hidden width of every block.
    pub blocks: Vec<[i64; 3]>,
}

impl<'a> Bench<'a> {
    /// Loads the data and trains the dense network, or takes up the one kept in a folder.
    pub fn new(options: &'a Options, device: Device) -> Result<Self> {
        let data = Data::load(options, device)?;
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
        let mut batches = Batches::new(&data.train, options.batch, 7, AUGMENTATION)?;
        while !dense.is_done() {
            dense.step(&[batches.at(dense.steps_done())?], &mut |_: &Event| Ok(()))?;
        }
        if let Some(folder) = &options.dense {
            Checkpoints::new(folder, 1).save(&dense)?;
        }
        dense.materialise()?;
        let dense_top1 = data.judge.top1(500, |images| dense.supernet().network_logits(images))?;
        let weights = dense.supernet().folded_weights();
        Ok(Self { options, data, network, weights, dense_top1, device })
    }

    /// Sizes of the dense network, in the order of [`Row::sizes`].
    pub fn dense_sizes(&self) -> Vec<i64> {
        let blocks = self.network.blocks.iter();
        let blocks = blocks.flat_map(|block| [block.heads, block.head_dim, block.hidden_dim]);
        std::iter::once(self.network.embed_dim).chain(blocks).collect()
    }

    /// Searches and fine-tunes by one method.
    pub fn run(&self, method: Named, share: f64, seed: u64) -> Result<Row> {
        let budget = Budget::share(Metric::Macs, share, &self.network.cost_model())?;
        let (space, options) = (self.network.space()?, method.options(self.options, seed));
        let (network, weights) = (self.network.clone(), Some(&self.weights));
        let mut session =
            Session::new(network, space, weights, vec![budget], options, self.device)?;
        if method == Named::RandomSizes {
            draw_sizes(&mut session, seed)?;
        }
        let start = session.supernet().states().iter().map(Start::new).collect::<Result<_>>()?;
        let mut watch = Watch { start, ..Watch::default() };
        self.search(&mut session, &mut watch)?;
        let top1_searched = self.top1(&mut session)?;
        self.finetune(&mut session)?;
        self.conclude(
            &session,
            watch,
            Row {
                method: method.name(),
                budget: share,
                seed,
                top1_searched,
                macs: 0.0,
                top1: 0.0,
                search_seconds: 0.0,
                step_ratio: 0.0,
                jump: 0.0,
                start_bias: None,
                embed_dim: 0,
                blocks: Vec::new(),
            },
        )
    }

    fn batches(&self) -> Result<Batches<'_>> {
        Batches::new(&self.data.train, self.options.batch, 8, AUGMENTATION)
    }

    fn search(&self, session: &mut Session<VitConfig>, watch: &mut Watch) -> Result<()> {
        let mut batches = self.batches()?;
        let mut training = SearchOptions::training(self.options.steps);
        training.precision = self.options.precision();
        let mut beside = plain(&self.network, Some(&self.weights), training, self.device)?;
        while session.phase() == Phase::Search {
            let step = session.steps_done();
            let batch = [batches.at(step)?];
            let started = Instant::now();
            let jump = &mut watch.jump;
            let mut notice = |event: &Event| {
                if let Event::Cut(cut) = event {
                    *jump = jump.max(cut.total_jump / cut.logit_scale);
                }
                Ok(())
            };
            session.step(&batch, &mut notice)?;
            watch.searched.push(started.elapsed());
            if step.is_multiple_of(PLAIN_INTERVAL) && !beside.is_done() {
                let started = Instant::now();
                beside.step(&batch, &mut |_: &Event| Ok(()))?;
                watch.plain.push(started.elapsed());
            }
        }
        Ok(())
    }

    fn finetune(&self, session: &mut Session<VitConfig>) -> Result<()> {
        let mut batches = self.batches()?;
        while !session.is_done() {
            session.step(&[batches.at(session.steps_done())?], &mut |_: &Event| Ok(()))?;
        }
        Ok(())
    }

    fn top1(&self, session: &mut Session<VitConfig>) -> Result<f64> {
        session.materialise()?;
        self.data.judge.top1(500, |images| session.supernet().network_logits(images))
    }

    fn conclude(&self, session: &Session<VitConfig>, watch: Watch, row: Row) -> Result<Row> {
        let subnet = FoldingExtractor.extract(session.supernet())?;
        let some = Tensor::f_arange(64, (Kind::Int64, self.device))?;
        verify(session.supernet(), &subnet, &self.data.judge.select(&some)?.0)?;
        let dense = self.network.cost_model().dense_cost(Metric::Macs)?;
        let blocks = &subnet.architecture().blocks;
        Ok(Row {
            macs: subnet.macs()? / dense,
            top1: self.data.judge.top1(500, |images| subnet.predict(images))?,
            search_seconds: watch.searched.iter().sum::<Duration>().as_secs_f64(),
            step_ratio: mean(&watch.searched) / mean(&watch.plain),
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
    cells: Cells,
    alpha: Vec<f64>,
}

impl Start {
    fn new(state: &DimensionState) -> Result<Self> {
        let alpha = state.alpha.f_detach()?.f_flatten(0, -1)?.f_to_kind(Kind::Double)?;
        let alpha = Vec::try_from(alpha.f_to_device(Device::Cpu)?)?;
        Ok(Self { cells: state.cells().clone(), alpha })
    }

    /// Standard score of the cell of this size.
    fn score(&self, size: Size) -> Option<f64> {
        let cell = self.cells.sizes().position(|own| own == size)?;
        let n = self.alpha.len() as f64;
        let mean = self.alpha.iter().sum::<f64>() / n;
        let std = (self.alpha.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / n).sqrt();
        (std > 0.0).then(|| (self.alpha[cell] - mean) / std)
    }
}

fn start_bias(start: &[Start], session: &Session<VitConfig>) -> Result<Option<f64>> {
    let states = session.supernet().states().iter();
    let scores: Option<Vec<f64>> =
        start.iter().zip(states).map(|(start, state)| start.score(state.cells().full())).collect();
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

fn mean(times: &[Duration]) -> f64 {
    times.iter().sum::<Duration>().as_secs_f64() / times.len().max(1) as f64
}

fn plain(
    network: &VitConfig,
    weights: Option<&Weights>,
    options: SearchOptions,
    device: Device,
) -> Result<Session<VitConfig>> {
    Session::new(network.clone(), SearchSpace::empty(), weights, vec![], options, device)
}

/// α drawn wide apart: the most probable choice within the budget is a random one.
fn draw_sizes(session: &mut Session<VitConfig>, seed: u64) -> Result<()> {
    tch::manual_seed(1000 + seed as i64);
    for state in session.supernet_mut().states_mut() {
        let alpha = state.alpha.f_randn_like()?;
        state.set_alpha(&alpha)?;
    }
    Ok(())
}

impl Row {
    pub const HEADER: &'static str = "method             budget seed   MACs  top-1 searched  \
        seconds   step   jump  sizes";

    /// Embedding, then heads, channels of a head and hidden width of every block.
    pub fn sizes(&self) -> impl Iterator<Item = i64> + '_ {
        std::iter::once(self.embed_dim).chain(self.blocks.iter().flatten().copied())
    }

    /// Appends the row to a file of JSON lines.
    pub fn append(&self, path: &Path) -> std::io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        writeln!(file, "{}", serde_json::to_string(self)?)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { method, budget, seed, macs, top1, top1_searched, .. } = self;
        let (top1, searched) = (100.0 * top1, 100.0 * top1_searched);
        write!(
            formatter,
            "{method:18} {budget:6.2} {seed:4} {macs:6.4} {top1:6.2} {searched:8.2} "
        )?;
        let Self { search_seconds, step_ratio, jump, embed_dim, blocks, .. } = self;
        write!(
            formatter,
            "{search_seconds:8.1} {step_ratio:5.2}x {jump:6.3}  {embed_dim} {blocks:?}"
        )
    }
}
