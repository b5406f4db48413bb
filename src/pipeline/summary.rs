//! Results of a run: `summary.json`.

use super::stage::FinishedStage;
use super::stages::Trained;
use super::{Feed, ImageClassifier, LatencySummary};
use crate::cost::{CostLimit, Metric};
use crate::files::{if_there, read_json, write_json};
use crate::search::{Event, Finished, Phase};
use crate::space::{Dimension, Size};
use crate::subnet::{LatencyComparison, Subnet, Verification};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Calls that a latency is the median of.
const LATENCY_RUNS: usize = 20;
/// Batch sizes of the latencies.
const LATENCY_BATCHES: [i64; 2] = [1, 32];

/// Results of a search, with the fine-tuning after it. Displayed as a table.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Images.
    pub dataset: DataSummary,
    /// Seed of the run.
    pub seed: u64,
    /// Budgets, as amounts.
    #[serde(serialize_with = "targets")]
    pub budgets: Vec<CostLimit>,
    /// Latency of the choice of sizes, where it is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencySummary>,
    /// Dense network.
    pub dense: NetworkSummary,
    /// Subnet, fine-tuned if it was.
    pub subnet: NetworkSummary,
    /// Search.
    pub search: SearchSummary,
    /// Verification of the subnet.
    pub verification: VerificationSummary,
    /// Sizes of every dimension, in the order of the search space. Not stored.
    #[serde(skip)]
    pub sizes: Vec<KeptSize>,
}

/// Images of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataSummary {
    /// Number of training images.
    pub train: i64,
    /// Number of test images.
    pub test: i64,
    /// Shape of an image, `[C, H, W]`.
    pub image: [i64; 3],
    /// Number of classes.
    pub classes: i64,
}

/// Cost, accuracy and latency of a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NetworkSummary {
    /// MACs of one image.
    pub macs: f64,
    /// Number of parameters.
    pub params: f64,
    /// Top-1 on the test images, in [0, 1].
    pub top1: f64,
    /// Median latency in milliseconds, by batch size.
    pub latency_ms: BTreeMap<u64, f64>,
    /// Peak memory of a forward pass beside the weights, in bytes, by batch size; without those at which it was not
    /// measured ([`peak_memory`](crate::latency::peak_memory)).
    pub memory_bytes: BTreeMap<u64, u64>,
}

/// Length and times of a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SearchSummary {
    /// Optimiser steps of search and fine-tuning in it.
    pub steps: u64,
    /// Optimiser steps after which every dimension was decided.
    pub decided_after: Option<u64>,
    /// Wall time in seconds; `None` for a search that was resumed.
    pub seconds: Option<f64>,
    /// Share of that time spent waiting for batches.
    pub waiting_for_data: Option<f64>,
    /// Median time of a step of the search, in milliseconds.
    pub step_ms_median: f64,
    /// Median time of a fine-tuning step, in milliseconds.
    pub finetune_step_ms_median: Option<f64>,
    /// Median time of a step of the dense network, in milliseconds, where it was trained for
    /// comparison.
    pub plain_step_ms_median: Option<f64>,
}

/// Difference of the logits of subnet and masked network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerificationSummary {
    /// Largest absolute difference.
    pub max_abs_logit_difference: f64,
    /// Largest absolute logit.
    pub logit_scale: f64,
    /// Allowed difference as a share of `logit_scale`.
    pub tolerance: f64,
}

/// Size of one dimension in the dense network and in the subnet, in channels also where a unit is a pair of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSize {
    /// Name of the dimension.
    pub dimension: String,
    /// Size in the dense network.
    pub dense: Size,
    /// Size in the subnet.
    pub subnet: Size,
}

/// What a summary is made from.
pub(super) struct Measured<'a, A: ImageClassifier> {
    pub(super) seed: u64,
    pub(super) feed: &'a Feed,
    pub(super) limits: Vec<CostLimit>,
    pub(super) latency: Option<LatencySummary>,
    pub(super) dense: &'a Subnet<A>,
    /// What the search began with: the dense network, or one that computes the same in more dimensions.
    pub(super) searched: &'a A,
    pub(super) search: &'a Trained<A>,
    /// The subnet after fine-tuning, if there was any.
    pub(super) finetuned: Option<&'a Trained<A>>,
    /// The dense network after as many steps as the search, if it was trained.
    pub(super) reference: Option<&'a Trained<A>>,
}

impl Summary {
    /// Evaluates both networks and collects the results.
    pub(super) fn measure<A: ImageClassifier>(measured: Measured<A>) -> Result<Self> {
        let Measured { seed, feed, limits, latency, dense, search, finetuned, reference, .. } =
            measured;
        let last = finetuned.unwrap_or(search);
        let dense_top1 = match reference {
            Some(trained) => trained.stage.top1,
            None => feed.top1(|images| dense.predict(images))?,
        };
        Ok(Self {
            dataset: DataSummary {
                train: feed.train_images(),
                test: feed.test_images(),
                image: feed.image_shape(),
                classes: feed.classes(),
            },
            seed,
            budgets: limits,
            latency,
            dense: NetworkSummary::of(dense, dense_top1, &last.latency, Self::dense)?,
            subnet: {
                let top1 = feed.top1(|images| last.network.predict(images))?;
                NetworkSummary::of(&last.network, top1, &last.latency, Self::subnet)?
            },
            search: SearchSummary::of(&search.stage, reference),
            verification: VerificationSummary::of(last.verification),
            sizes: kept_sizes(measured.searched, last.network.architecture())?,
        })
    }

    /// Latency and memory of the dense network.
    fn dense(own: &LatencyComparison) -> (f64, Option<u64>) {
        (own.dense_ms, own.memory.map(|memory| memory.dense))
    }

    /// Latency and memory of the subnet.
    fn subnet(own: &LatencyComparison) -> (f64, Option<u64>) {
        (own.subnet_ms, own.memory.map(|memory| memory.subnet))
    }

    /// Replaces the subnet in the summary of its search by the fine-tuned one, if there is one.
    pub(super) fn replace_subnet<A: ImageClassifier>(
        path: &Path,
        trained: &Trained<A>,
    ) -> Result<()> {
        let summary = if_there(read_json::<serde_json::Value>(path))?;
        let Some(mut summary) = summary else { return Ok(()) };
        let refused = |error| Error::file(path, error);
        let (top1, latency) = (trained.stage.top1, &trained.latency);
        let subnet = NetworkSummary::of(&trained.network, top1, latency, Self::subnet)?;
        summary["subnet"] = serde_json::to_value(subnet).map_err(refused)?;
        if !latency.is_empty() {
            // Measured in turn with those of the subnet.
            let (milliseconds, memory) = measured(latency, Self::dense);
            summary["dense"]["latency_ms"] = serde_json::to_value(milliseconds).map_err(refused)?;
            summary["dense"]["memory_bytes"] = serde_json::to_value(memory).map_err(refused)?;
        }
        summary["search"]["finetune_step_ms_median"] =
            finite(trained.stage.step_ms(Phase::Finetune)).into();
        let verification = VerificationSummary::of(trained.verification);
        summary["verification"] = serde_json::to_value(verification).map_err(refused)?;
        write_json(path, &summary)
    }
}

impl NetworkSummary {
    fn of<A: ImageClassifier>(
        network: &Subnet<A>,
        top1: f64,
        latency: &[LatencyComparison],
        of: fn(&LatencyComparison) -> (f64, Option<u64>),
    ) -> Result<Self> {
        let (latency_ms, memory_bytes) = measured(latency, of);
        let (macs, params) = (network.macs()?, network.params()?);
        Ok(Self { macs, params, top1, latency_ms, memory_bytes })
    }
}

impl SearchSummary {
    fn of<A: ImageClassifier>(stage: &FinishedStage<A>, reference: Option<&Trained<A>>) -> Self {
        Self {
            steps: stage.search.steps_done(),
            decided_after: finished(&stage.events).map(|finished| finished.step),
            seconds: stage.time.map(|time| time.total),
            waiting_for_data: stage.time.map(|time| time.batches / time.total),
            step_ms_median: stage.step_ms(Phase::Search),
            finetune_step_ms_median: finite(stage.step_ms(Phase::Finetune)),
            plain_step_ms_median: reference
                .and_then(|trained| finite(trained.stage.step_ms(Phase::Finetune))),
        }
    }
}

impl VerificationSummary {
    fn of(verification: Verification) -> Self {
        Self {
            max_abs_logit_difference: verification.max_abs_logit_difference(),
            logit_scale: verification.logit_scale,
            tolerance: verification.tolerance,
        }
    }
}

/// Milliseconds and bytes of one of two networks, by images of a batch.
fn measured(
    latency: &[LatencyComparison],
    of: fn(&LatencyComparison) -> (f64, Option<u64>),
) -> (BTreeMap<u64, f64>, BTreeMap<u64, u64>) {
    let milliseconds = latency.iter().map(|own| (own.batch, of(own).0)).collect();
    let memory = latency.iter().filter_map(|own| Some((own.batch, of(own).1?)));
    (milliseconds, memory.collect())
}

fn kept_sizes<A: ImageClassifier>(dense: &A, subnet: &A) -> Result<Vec<KeptSize>> {
    let kept = subnet.cost_model().dense;
    let dimensions = dense.space()?.dimensions.into_iter();
    let size = |own: Dimension| {
        let [subnet, dense] = [*kept.get(&own.name)?, own.candidates.full()];
        let [subnet, dense] = [subnet, dense].map(|size| own.in_channels(size));
        Some(KeptSize { dimension: own.name, dense, subnet })
    };
    Ok(dimensions.filter_map(size).collect())
}

/// Latencies of the dense network and the subnet, measured alternately. `goes_on` is called before each
/// run.
pub(super) fn latency<A: ImageClassifier>(
    dense: &Subnet<A>,
    subnet: &Subnet<A>,
    feed: &Feed,
    goes_on: &dyn Fn() -> Result<()>,
) -> Result<Vec<LatencyComparison>> {
    let [channels, height, width] = feed.image_shape();
    let measure = |batch: i64| {
        let shape = [batch, channels, height, width];
        let images = Tensor::f_randn(shape, (Kind::Float, feed.device()))?;
        // Takes less than a thousandth of a run, and is not at every one where they are short.
        let dense = |images: &Tensor| goes_on().and_then(|()| dense.predict(images));
        let subnet = |images: &Tensor| subnet.predict(images);
        LatencyComparison::measure(&dense, &subnet, &images, LATENCY_RUNS)
    };
    LATENCY_BATCHES.into_iter().map(measure).collect()
}

/// JSON has no NaN.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn finished(events: &[Event]) -> Option<&Finished> {
    events.iter().find_map(|event| match event {
        Event::Finished(finished) => Some(finished),
        _ => None,
    })
}

/// Budgets as `{metric, target}`.
fn targets<S: serde::Serializer>(limits: &[CostLimit], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Target {
        metric: Metric,
        target: f64,
    }
    let target = |own: &CostLimit| Target { metric: own.metric, target: own.limit };
    serializer.collect_seq(limits.iter().map(target))
}
