//! One method: search, fine-tuning, extraction, judgement.

use crate::dense::Dense;
use crate::judge::{Distance, Judge};
use crate::methods::Named;
use crate::row::{Point, Row};
use crate::{AnyError, Options};
use cpu_time::ProcessTime;
use once_for_both::batch::{Batch, BatchSource};
use once_for_both::cost::{Budget, Metric};
use once_for_both::data::{ImageFolder, Loader, LoaderOptions};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::pipeline::{AugmentationPreset, DataConfig, Feed, FeedBatches, ShardsConfig};
use once_for_both::precision::Precision;
use once_for_both::search::{Phase, Search};
use once_for_both::sensitivity::Calibration;
use once_for_both::subnet::{Export, Extracted, Subnet};
use once_for_both::Result;
use serde_json::json;
use std::sync::Arc;
use tch::Tensor;

/// Held-out images that are judged at once, and that an extraction is verified on.
const EVALUATED: usize = 25;
/// Seed of the order of the images.
const ORDER: u64 = 8;

/// The dense network, its features of the held-out images, and the training images.
pub struct Bench<'a> {
    options: &'a Options,
    dense: Dense,
    feed: Feed,
    /// Held-out images and the dense network's features of them, batch by batch.
    held_out: Vec<(Tensor, Tensor)>,
}

impl<'a> Bench<'a> {
    /// Opens the images, and computes the dense network's features of the held-out ones.
    pub fn new(options: &'a Options, dense: Dense) -> Result<Self> {
        let config = DataConfig {
            folder: None,
            built_in: false,
            images: None,
            validation: 0,
            augmentation: AugmentationPreset::Light,
            mean: vec![],
            std: vec![],
            workers: Some(options.workers),
            max_pixels: None,
            shards: ShardsConfig::default(),
        };
        let feed = Feed::open(
            &options.folder.join("images"),
            &config,
            dense.network.image_size,
            dense.device,
        )?;
        let held_out = held_out(options, &dense)?;
        Ok(Self { options, dense, feed, held_out })
    }

    /// Searches and fine-tunes by one method.
    pub fn run(&self, method: Named, seed: u64) -> Result<Row, AnyError> {
        let started = ProcessTime::now();
        let mut batches = self.feed.batches(self.options.batch, ORDER + 1000 * seed)?;
        let mut search = self.start(method, seed)?;
        if method == Named::Sensitivity {
            self.measure(&mut search, &batches.batch(0)?.images)?;
        }
        let (mut curve, mut step_seconds) = (Vec::new(), [0.0; 2]);
        step_seconds[0] = steps(&mut search, &mut batches, Phase::Search)?;
        let decided = search.steps_done();
        let subnet = self.extracted(&mut search)?;
        curve.push(Point { after: 0, distance: self.judge(&subnet)? });
        step_seconds[1] = steps(&mut search, &mut batches, Phase::Finetune)?;
        let subnet = self.extracted(&mut search)?;
        let after = search.steps_done() - decided;
        curve.push(Point { after, distance: self.judge(&subnet)? });
        if let Some(out) = &self.options.out {
            subnet.save(out, &Export::default())?;
        }
        let sizes = subnet.architecture();
        let dense = self.dense.network.cost_model().dense_cost(Metric::Macs)?;
        let held_out: i64 = self.held_out.iter().map(|(images, _)| images.size()[0]).sum();
        Ok(Row {
            method: method.name(),
            budget: self.options.budget,
            seed,
            macs: subnet.macs()? / dense,
            curve,
            embed_dim: sizes.embed_dim,
            blocks: sizes.blocks.iter().map(|b| [b.heads, b.head_dim, b.hidden_dim]).collect(),
            step_seconds,
            cpu_seconds: started.elapsed().as_secs_f64(),
            options: json!({ "search": search.options(), "components": search.components().ids() }),
            images: json!({ "batch": self.options.batch, "train": self.feed.train_images(), "held_out": held_out }),
        })
    }

    fn start(&self, method: Named, seed: u64) -> Result<Search<VitConfig>> {
        let mut search = Search::of(self.dense.network.clone())
            .weights(&self.dense.weights)
            .budget(Budget::macs_share(self.options.budget))
            .options(method.options(self.options, seed))
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

    /// Sets α by the measured rise of the relative error, on the first of these images.
    fn measure(&self, search: &mut Search<VitConfig>, images: &Tensor) -> Result<()> {
        let count = self.options.calibration.min(images.size()[0]);
        let images = [Batch::unlabelled(images.f_narrow(0, 0, count)?)];
        let task = self.options.task();
        let mut calibration = Calibration::task(&images, &task);
        search.evaluate(|supernet| calibration.measure(supernet))?.start_alpha(search, 1.0)
    }

    /// The subnet as of now, verified.
    fn extracted(&self, search: &mut Search<VitConfig>) -> Result<Extracted<VitConfig>> {
        search.extract(&self.held_out[0].0)
    }

    /// Distance of the subnet's features from those of the dense network on the held-out images.
    fn judge(&self, subnet: &Subnet<VitConfig>) -> Result<Distance> {
        let mut judge = Judge::default();
        for (images, dense) in &self.held_out {
            judge.add(&subnet.predict(images)?, dense)?;
        }
        Ok(judge.distance())
    }
}

/// Held-out images, and the dense network's features of them, batch by batch.
fn held_out(options: &Options, dense: &Dense) -> Result<Vec<(Tensor, Tensor)>> {
    let network = dense.build(Precision::F32)?;
    let side = dense.network.image_size as usize;
    let evaluation = LoaderOptions::evaluation(side, EVALUATED).workers(options.workers);
    let folder = Arc::new(ImageFolder::open(options.folder.join("images").join("val"))?);
    let mut loader = Loader::new(folder, evaluation, dense.device)?;
    let batches = loader.steps_per_epoch();
    // Images are in the order of their classes: every so many batches are of all classes.
    let wanted = options.judged.map_or(batches, |judged| judged.div_ceil(EVALUATED as u64));
    let stride = (batches / wanted.max(1)).max(1);
    let pair = |step| {
        let images = loader.at(step)?.images;
        let features = network.predict(&images)?;
        Ok((images, features))
    };
    (0..batches).step_by(stride as usize).map(pair).collect()
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
