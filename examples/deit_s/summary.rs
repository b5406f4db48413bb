//! What came of a run: summary.json and the table at the end.

use crate::cli::Options;
use crate::stage::Stage;
use once_for_both::cost::{Budget, Metric};
use once_for_both::data::ImageSet;
use once_for_both::extract::{LatencyComparison, Subnet, Verification};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Event, Finished, Phase};
use once_for_both::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What the summary is measured from.
pub struct Measured<'a> {
    pub options: &'a Options,
    pub data: (&'a ImageSet, &'a ImageSet),
    pub budget: Budget,
    pub start: &'a Stage,
    pub search: &'a Stage,
    pub reference: &'a Stage,
    pub subnet: &'a Subnet<VitConfig>,
    pub verification: Verification,
    pub latency: &'a [LatencyComparison],
}

#[derive(Serialize)]
pub struct Summary {
    dataset: Dataset,
    seed: u64,
    budget: Target,
    dense: Network,
    subnet: Network,
    search: Search,
    verification: Verified,
}

#[derive(Serialize)]
struct Dataset {
    train: i64,
    test: i64,
    image: [i64; 3],
    classes: i64,
}

#[derive(Serialize)]
struct Target {
    metric: Metric,
    target: f64,
}

#[derive(Serialize)]
struct Network {
    macs: f64,
    params: f64,
    /// Share of the test images recognised.
    top1: f64,
    /// Median of a batch, by its size.
    latency_ms: BTreeMap<u64, f64>,
}

#[derive(Serialize)]
struct Search {
    steps: u64,
    decided_after: Option<u64>,
    /// Wall time; null where the search was resumed.
    seconds: Option<f64>,
    step_ms_median: f64,
    finetune_step_ms_median: f64,
    plain_step_ms_median: f64,
}

#[derive(Serialize)]
struct Verified {
    max_abs_logit_difference: f64,
    logit_scale: f64,
    tolerance: f64,
}

impl Summary {
    pub fn measure(measured: Measured) -> Result<Self> {
        let Measured { options, data: (train, test), subnet, verification, .. } = measured;
        let dense = measured.reference.session.supernet();
        let latency = |of: fn(&LatencyComparison) -> f64| {
            measured.latency.iter().map(|latency| (latency.batch, of(latency))).collect()
        };
        let model = dense.architecture().cost_model();
        Ok(Self {
            dataset: Dataset {
                train: train.len(),
                test: test.len(),
                image: train.image_shape(),
                classes: train.classes(),
            },
            seed: options.seed,
            budget: Target { metric: measured.budget.metric, target: measured.budget.limit },
            dense: Network {
                macs: model.dense_cost(Metric::Macs)?,
                params: model.dense_cost(Metric::Params)?,
                top1: test.top1(200, |images| dense.network_logits(images))?,
                latency_ms: latency(|latency| latency.dense_ms),
            },
            subnet: Network {
                macs: subnet.macs()?,
                params: subnet.params()?,
                top1: test.top1(200, |images| subnet.predict(images))?,
                latency_ms: latency(|latency| latency.subnet_ms),
            },
            search: Search {
                steps: options.steps,
                decided_after: finished(measured.search).map(|finished| finished.step),
                seconds: measured.search.seconds,
                step_ms_median: measured.search.step_ms(Phase::Search),
                finetune_step_ms_median: measured.search.step_ms(Phase::Finetune),
                plain_step_ms_median: measured.start.step_ms(Phase::Finetune),
            },
            verification: Verified {
                max_abs_logit_difference: verification.max_abs_logit_difference(),
                logit_scale: verification.logit_scale,
                tolerance: verification.tolerance,
            },
        })
    }

    /// The table, the kept architecture, and where everything is.
    pub fn print(&self, subnet: &Subnet<VitConfig>, dense: &VitConfig, out: &Path) {
        let (d, s) = (&self.dense, &self.subnet);
        println!("\n                    dense      subnet");
        println!(
            "MMACs          {:>10.2}  {:>10.2}   {:>6.1}%",
            d.macs / 1e6,
            s.macs / 1e6,
            100.0 * s.macs / d.macs
        );
        println!(
            "parameters, M  {:>10.3}  {:>10.3}   {:>6.1}%",
            d.params / 1e6,
            s.params / 1e6,
            100.0 * s.params / d.params
        );
        println!(
            "top-1, %       {:>10.1}  {:>10.1}   {:>+6.1} points",
            100.0 * d.top1,
            100.0 * s.top1,
            100.0 * (s.top1 - d.top1)
        );
        for (batch, dense) in &d.latency_ms {
            let subnet = s.latency_ms[batch];
            let speed_up = dense / subnet;
            println!("ms, batch {batch:<5}{dense:>10.2}  {subnet:>10.2}   {speed_up:>6.2}× faster");
        }
        let own = subnet.architecture();
        println!("\nkept: embedding {} of {}", own.embed_dim, dense.embed_dim);
        println!("block     heads     head dim    hidden dim");
        for (block, (kept, all)) in own.blocks.iter().zip(&dense.blocks).enumerate() {
            println!(
                "{block:>5}   {:>2} of {:<2}   {:>3} of {:<3}   {:>4} of {:<4}",
                kept.heads, all.heads, kept.head_dim, all.head_dim, kept.hidden_dim, all.hidden_dim
            );
        }
        println!(
            "\nbudget {:.2} MMACs kept: {:.2}; extracted and masked network differ by {:.1e} (allowed {:.1e})",
            self.budget.target / 1e6,
            s.macs / 1e6,
            self.verification.max_abs_logit_difference,
            self.verification.tolerance * self.verification.logit_scale,
        );
        println!(
            "saved: {0}/subnet (the network), {0}/summary.json, {0}/metrics.jsonl",
            out.display()
        );
    }
}

fn finished(stage: &Stage) -> Option<&Finished> {
    stage.events.iter().find_map(|event| match event {
        Event::Finished(finished) => Some(finished),
        _ => None,
    })
}
