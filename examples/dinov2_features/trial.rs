//! One method: search, fine-tuning, extraction, judgement.

use crate::dense::Dense;
use crate::judge::Judge;
use crate::methods::Named;
use crate::row::{Point, Row};
use crate::{AnyError, Options};
use cpu_time::ProcessTime;
use once_for_both::batch::{Batch, BatchSource};
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::pipeline::{AugmentationPreset, DataConfig, Feed, FeedBatches};
use once_for_both::search::{Phase, Search};
use once_for_both::sensitivity::Calibration;
use once_for_both::space::DimensionKind;
use once_for_both::subnet::{Export, Extracted};
use once_for_both::Result;
use serde_json::json;

/// Seed of the order of the images.
const ORDER: u64 = 8;

/// The dense network, the training images, and the judge.
pub struct Bench<'a> {
    options: &'a Options,
    dense: Dense,
    feed: Feed,
    pub judge: Judge,
}

impl<'a> Bench<'a> {
    /// Opens the images, and judges the dense network.
    pub fn new(options: &'a Options, dense: Dense) -> Result<Self, AnyError> {
        let augmentation = match options.crops {
            true => AugmentationPreset::Light,
            false => AugmentationPreset::None,
        };
        let workers = Some(options.workers);
        let config = DataConfig { workers, ..DataConfig::new(augmentation) };
        let feed = Feed::open(
            &options.folder.join("images"),
            &config,
            dense.network.image_size,
            dense.device,
        )?;
        let judge = Judge::new(options, &dense)?;
        Ok(Self { options, dense, feed, judge })
    }

    /// Searches and fine-tunes by one method.
    pub fn run(&mut self, method: Named, seed: u64) -> Result<Row, AnyError> {
        let started = ProcessTime::now();
        let mut batches = self.feed.batches(self.options.batch, ORDER + 1000 * seed)?;
        let mut search = self.start(method, seed)?;
        if method == Named::Sensitivity {
            self.measure(&mut search, &mut batches)?;
        }
        let (mut curve, mut step_seconds) = (Vec::new(), [0.0; 2]);
        step_seconds[0] = steps(&mut search, &mut batches, Phase::Search)?;
        let decided = search.steps_done();
        let subnet = self.extracted(&mut search)?;
        curve.push(Point { after: 0, judgement: self.judge.of(&subnet)? });
        step_seconds[1] = steps(&mut search, &mut batches, Phase::Finetune)?;
        let subnet = self.extracted(&mut search)?;
        let after = search.steps_done() - decided;
        curve.push(Point { after, judgement: self.judge.of(&subnet)? });
        if let Some(out) = &self.options.out {
            subnet.save(out, &Export::default())?;
        }
        let sizes = subnet.architecture();
        let dense = self.dense.network.cost_model().dense_cost(Metric::Macs)?;
        let [held_out, known] = self.judge.counts();
        Ok(Row {
            method: method.name(),
            budget: self.options.budget,
            seed,
            macs: subnet.macs()? / dense,
            dense: self.judge.dense.recognition,
            curve,
            embed_dim: sizes.embed_dim,
            blocks: sizes.blocks.iter().map(|b| [b.heads, b.head_dim, b.hidden_dim]).collect(),
            step_seconds,
            cpu_seconds: started.elapsed().as_secs_f64(),
            options: json!({
                "search": search.options(),
                "components": search.components().ids(),
                "least_hidden": self.options.least_hidden,
            }),
            images: json!({
                "side": self.options.side,
                "batch": self.options.batch,
                "train": self.feed.train_images(),
                "held_out": held_out,
                "known": known,
                "calibration": self.options.calibration,
                "crops": self.options.crops,
            }),
        })
    }

    fn start(&self, method: Named, seed: u64) -> Result<Search<VitConfig>> {
        let least = self.options.least_hidden;
        let mut search = Search::of(self.dense.network.clone())
            .weights(&self.dense.weights)
            .space(self.dense.network.space()?.at_least_share(DimensionKind::Hidden, least)?)
            .budget(Budget::macs_share(self.options.budget))
            .options(method.options(self.options, seed)?)
            .components(method.components())
            .task(self.options.task())
            .device(self.dense.device)
            .build()?;
        if method == Named::Random {
            once_for_both::randomness::seed(1000 + seed);
            for state in search.supernet_mut().states_mut() {
                let alpha = state.alpha.f_randn_like()?;
                state.set_alpha(&alpha)?;
            }
        }
        Ok(search)
    }

    /// Sets α by the measured rise of the relative error, on the first of the training images.
    fn measure(&self, search: &mut Search<VitConfig>, batches: &mut FeedBatches<'_>) -> Result<()> {
        let (mut images, mut missing) = (Vec::new(), self.options.calibration);
        while missing > 0 {
            let batch = batches.batch(images.len() as u64)?.images;
            let count = missing.min(batch.size()[0]);
            images.push(Batch::unlabelled(batch.f_narrow(0, 0, count)?));
            missing -= count;
        }
        let task = self.options.task();
        let mut calibration = Calibration::task(&images, &task);
        search.evaluate(|supernet| calibration.measure(supernet))?.start_alpha(search, 1.0)
    }

    /// The subnet as of now, verified.
    fn extracted(&self, search: &mut Search<VitConfig>) -> Result<Extracted<VitConfig>> {
        search.extract(self.judge.images())
    }
}

/// Steps to the end of a phase, and returns the processor seconds of a step.
fn steps(
    search: &mut Search<VitConfig>,
    batches: &mut FeedBatches<'_>,
    phase: Phase,
) -> Result<f64> {
    let (first, started) = (search.steps_done(), ProcessTime::now());
    while search.phase() == phase && !search.is_done() {
        search.step(&[batches.batch(search.steps_done())?], &mut ())?;
    }
    let done = search.steps_done() - first;
    Ok(started.elapsed().as_secs_f64() / done.max(1) as f64)
}
