//! Results of a run, measured on its networks.

use super::stage::FinishedStage;
use super::stages::Trained;
use super::summary::{
    DataSummary, KeptSize, NetworkSummary, SearchSummary, Summary, VerificationSummary,
};
use super::{Feed, ImageClassifier, LatencySummary};
use crate::cost::CostLimit;
use crate::search::{Finished, Phase};
use crate::space::Dimension;
use crate::subnet::{LatencyComparison, Subnet, Verification};
use crate::Result;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Calls that a latency is the median of.
const LATENCY_RUNS: usize = 20;
/// Batch sizes of the latencies.
const LATENCY_BATCHES: [i64; 2] = [1, 32];

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
            search: SearchSummary::of(&search.stage, finetuned, reference),
            verification: VerificationSummary::of(search.verification),
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

    /// Returns the results with the fine-tuned subnet in place of that of the search.
    pub(super) fn with_subnet<A: ImageClassifier>(mut self, trained: &Trained<A>) -> Result<Self> {
        let (top1, latency) = (trained.stage.top1, &trained.latency);
        let before = self.subnet;
        self.subnet = NetworkSummary::of(&trained.network, top1, latency, Self::subnet)?;
        if latency.is_empty() {
            // Fine-tuning changes no sizes.
            self.subnet.latency_ms = before.latency_ms;
            self.subnet.memory_bytes = before.memory_bytes;
        } else {
            // Measured in turn with those of the subnet.
            let (milliseconds, memory) = measured(latency, Self::dense);
            (self.dense.latency_ms, self.dense.memory_bytes) = (milliseconds, memory);
        }
        self.search.finetune_step_ms_median = finite(trained.stage.step_ms(Phase::Finetune));
        Ok(self)
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
    fn of<A: ImageClassifier>(
        stage: &FinishedStage<A>,
        finetuned: Option<&Trained<A>>,
        reference: Option<&Trained<A>>,
    ) -> Self {
        let finetuning = finetuned.map_or(stage, |trained| &trained.stage);
        Self {
            steps: stage.search.steps_done(),
            decided_after: Finished::of(&stage.events).map(|finished| finished.step),
            seconds: stage.time.map(|time| time.total),
            waiting_for_data: stage.time.map(|time| time.batches / time.total),
            step_ms_median: stage.step_ms(Phase::Search),
            finetune_step_ms_median: finite(finetuning.step_ms(Phase::Finetune)),
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
