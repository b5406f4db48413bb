//! The latency model of `--latency`, budgets in it, and the latency of a row's subnet measured beside the dense network.

use crate::bench::{self, Bench};
use crate::family::Compared;
use crate::options::{Limit, Source};
use crate::scaled::ScaledLoss;
use crate::AnyError;
use once_for_both::cost::Budget;
use once_for_both::latency::{DeviceMeter, LatencyModel, MeasureOptions, MeasureProgress, Meter};
use once_for_both::models::Architecture;
use once_for_both::pipeline::Feed;
use once_for_both::precision::Precision;
use once_for_both::space::Sizes;
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Latency of a subnet as shares of the dense network's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RowLatency {
    pub predicted: f64,
    pub measured: f64,
    pub standard_error: f64,
}

/// Measures the model of `--latency` where its file does not exist yet, on as many threads as the rows
/// will have, and refuses a file of other conditions.
pub fn prepare<A: Compared>(
    source: &Source,
    feed: &Feed,
    weights: &Path,
    threads: Option<i32>,
) -> Result<(), AnyError> {
    let Some(file) = source.latency.as_deref() else { return Ok(()) };
    threads.into_iter().for_each(tch::set_num_threads);
    let dense = unscaled(bench::dense::<A>(source, weights, feed.device())?.architecture());
    let space = dense.space()?.removable_branches();
    let meter = meter(feed, source.latency_batch)?;
    if file.exists() {
        let model = LatencyModel::read(file)?;
        model.setting.expect(&Meter::<ScaledLoss<A>>::setting(&meter))?;
        model.expect_architecture(&dense)?;
        return Ok(model.expect_space(&space)?);
    }
    let mut told = |progress: &MeasureProgress| {
        eprintln!("latency: {progress}");
        Ok(())
    };
    let options = MeasureOptions::default();
    let model = LatencyModel::measure(&dense, &space, &meter, &options, &mut told)?;
    model.write(file)?;
    Ok(())
}

/// The network whose latency is measured: that of the rows, with an unscaled loss.
fn unscaled<A: Compared>(network: &A) -> ScaledLoss<A> {
    ScaledLoss { network: network.clone(), factor: 1.0 }
}

fn meter(feed: &Feed, batch: i64) -> Result<DeviceMeter> {
    let [channels, height, width] = feed.image_shape();
    DeviceMeter::new(feed.device(), Precision::F32, [batch, channels, height, width])
}

impl<A: Compared> Bench<A> {
    /// Returns the budget of a row: a share of the dense latency or of the dense MACs.
    pub fn budget(&self, share: f64) -> Budget {
        match self.limit {
            Limit::Latency => Budget::latency_share(share),
            Limit::Macs => Budget::macs_share(share),
        }
    }

    /// Measures a network of these sizes beside the dense one, with `--latency`.
    pub fn latency_of(&self, sizes: &Sizes) -> Result<Option<RowLatency>, AnyError> {
        let Some(model) = &self.latency else { return Ok(None) };
        let dense = unscaled(&self.network);
        let meter = meter(&self.feed, model.setting.images[0])?;
        let own = model.check(&meter, &dense, &dense.resized(sizes)?, &|| Ok(()))?;
        let [predicted, measured, standard_error] =
            [model.predict(sizes)?, own.ms, own.standard_error].map(|ms| ms / model.dense_ms);
        Ok(Some(RowLatency { predicted, measured, standard_error }))
    }
}
