//! The dense network and the data that all rows start from.

use crate::family::Compared;
use crate::options::{Limit, Source};
use crate::plan::Run;
use crate::row::Row;
use crate::{data, terms, AnyError};
use cpu_time::ProcessTime;
use once_for_both::latency::LatencyModel;
use once_for_both::pipeline::{expect_fits, Feed, FeedBatches, Judgement};
use once_for_both::subnet::Subnet;
use once_for_both::supernet::Weights;
use once_for_both::{device, Result};
use std::path::Path;
use std::time::Instant;
use tch::Device;

/// Test images that an extraction is verified on.
pub const CALIBRATION: i64 = 64;
/// Seed of the batches of search and fine-tuning.
const SEARCH_SEED: u64 = 8;

/// The dense network and the data that all rows start from.
pub struct Bench<A> {
    pub feed: Feed,
    pub network: A,
    pub weights: Weights,
    /// Checksum of the weights.
    pub checksum: String,
    pub device: Device,
    /// Training images that are held out and evaluated on.
    pub validate: i64,
    /// The model of `--latency`.
    pub latency: Option<LatencyModel>,
    /// What budgets are shares of.
    pub limit: Limit,
}

impl<A: Compared> Bench<A> {
    /// Opens the data, and loads the dense network of `weights`.
    pub fn open(source: &Source, weights: &Path) -> Result<Self> {
        let device = device::parse(&source.device)?;
        Self::new(data::open(source, device)?, source, weights)
    }

    /// Loads the dense network of `weights`.
    pub fn new(feed: Feed, source: &Source, weights: &Path) -> Result<Self> {
        let device = feed.device();
        let dense = dense::<A>(source, weights, device)?;
        expect_fits(dense.architecture(), &feed, "--weights")?;
        let weights = dense.weights().iter();
        let weights = weights.map(|(name, weight)| (name.clone(), weight.shallow_clone()));
        let (network, weights) = (dense.architecture().clone(), weights.collect());
        let checksum = terms::checksum(&weights)?;
        let latency = source.latency.as_deref().map(LatencyModel::read).transpose()?;
        let limit = if latency.is_some() { source.limit } else { Limit::Macs };
        let validate = source.validate;
        Ok(Self { feed, network, weights, checksum, device, validate, latency, limit })
    }

    /// Returns NLL and hit of the dense network on every image to evaluate on.
    pub fn judge_dense(&self) -> Result<Judgement> {
        let dense = Subnet::new(self.network.clone(), &self.weights, self.device)?;
        self.feed.judge(|images| dense.predict(images))
    }

    /// Refuses, before anything is trained, a run that cannot be measured.
    pub fn check(&self, run: &Run) -> Result<(), AnyError> {
        let checked = match run.method.is_searched() {
            true => self.builder(run).and_then(|builder| Ok(builder.check()?)),
            false => self.narrowed(run.budget).map(drop),
        };
        checked.map_err(|error| format!("{run}: {error}").into())
    }

    /// Measures a row.
    pub fn measure(&self, run: &Run) -> Result<Row, AnyError> {
        let (started, processor) = (Instant::now(), ProcessTime::now());
        let terms = self.terms(run)?;
        let row = match run.method.is_searched() {
            true => self.search_and_finetune(run)?,
            false => self.scratch(run)?,
        };
        if let Some(point) = row.curve.iter().find(|point| !point.nll.is_finite()) {
            return Err(format!("NLL: got {}, expected a finite number", point.nll).into());
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(Row { terms, seconds, cpu_seconds: processor.elapsed().as_secs_f64(), ..row })
    }

    /// The batches of search and fine-tuning.
    pub fn batches(&self, run: &Run) -> Result<FeedBatches<'_>> {
        self.feed.batches(run.protocol.batch, SEARCH_SEED + 1000 * run.order())
    }
}

/// Loads the dense network of `weights`, as `source` wants it searched.
pub fn dense<A: Compared>(source: &Source, weights: &Path, device: Device) -> Result<Subnet<A>> {
    let dense = Subnet::<A>::load(weights, device)?;
    match source.qk_v_apart {
        true => dense.qk_v_apart(),
        false => Ok(dense),
    }
}
