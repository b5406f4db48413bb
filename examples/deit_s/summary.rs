//! What came of a run: summary.json and the table at the end.

use crate::feed::Feed;
use crate::folder::write_whole;
use crate::pipeline::Trained;
use crate::stage::Stage;
use crate::AnyError;
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::VitConfig;
use once_for_both::search::{Event, Finished, Phase};
use once_for_both::subnet::{LatencyComparison, Subnet, Verification};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// What the summary is made from.
pub struct Measured<'a> {
    pub seed: u64,
    pub feed: &'a Feed,
    pub budgets: &'a [Budget],
    pub dense: &'a Subnet<VitConfig>,
    pub search: &'a Trained,
    /// The search's subnet after more training, where there was any.
    pub finetuned: Option<&'a Trained>,
    /// The dense network after as much training, where there was any.
    pub reference: Option<&'a Trained>,
}

#[derive(Serialize)]
pub struct Summary {
    dataset: Dataset,
    seed: u64,
    budgets: Vec<Target>,
    dense: Network,
    subnet: Network,
    search: Search,
    verification: Verified,
    #[serde(skip)]
    sizes: [VitConfig; 2],
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
    /// Share of that time.
    waiting_for_data: Option<f64>,
    step_ms_median: f64,
    /// Where the subnet trained on after the decision.
    finetune_step_ms_median: Option<f64>,
    /// Of the dense network, where it was trained for comparison.
    plain_step_ms_median: Option<f64>,
}

#[derive(Serialize)]
struct Verified {
    max_abs_logit_difference: f64,
    logit_scale: f64,
    tolerance: f64,
}

impl Summary {
    pub fn measure(measured: Measured) -> Result<Self, AnyError> {
        let Measured { seed, feed, dense, search, .. } = measured;
        let last = measured.finetuned.unwrap_or(search);
        let times = &last.latency;
        let of = |of: fn(&LatencyComparison) -> f64| {
            times.iter().map(|latency| (latency.batch, of(latency))).collect()
        };
        let before = || feed.top1(|images| dense.predict(images));
        let dense_top1 =
            measured.reference.map_or_else(before, |trained| Ok(trained.stage.top1))?;
        let stage = &search.stage;
        Ok(Self {
            dataset: Dataset {
                train: feed.train_images(),
                test: feed.test_images(),
                image: feed.shape,
                classes: feed.classes,
            },
            seed,
            budgets: measured.budgets.iter().map(Target::of).collect(),
            dense: Network {
                macs: dense.macs()?,
                params: dense.params()?,
                top1: dense_top1,
                latency_ms: of(|latency| latency.dense_ms),
            },
            subnet: Network {
                macs: last.network.macs()?,
                params: last.network.params()?,
                top1: feed.top1(|images| last.network.predict(images))?,
                latency_ms: of(|latency| latency.subnet_ms),
            },
            search: Search {
                steps: stage.session.steps_done(),
                decided_after: finished(stage).map(|finished| finished.step),
                seconds: stage.time.map(|time| time.all),
                waiting_for_data: stage.time.map(|time| time.data / time.all),
                step_ms_median: stage.step_ms(Phase::Search),
                finetune_step_ms_median: number(stage.step_ms(Phase::Finetune)),
                plain_step_ms_median: measured
                    .reference
                    .and_then(|trained| number(trained.stage.step_ms(Phase::Finetune))),
            },
            verification: Verified::of(last.verification),
            sizes: [dense.architecture().clone(), last.network.architecture().clone()],
        })
    }

    /// Puts a subnet that has trained on into the summary of its search, if there is one.
    pub fn replace_subnet(path: &Path, trained: &Trained) -> Result<(), AnyError> {
        let Ok(text) = std::fs::read(path) else { return Ok(()) };
        let mut summary: serde_json::Value = serde_json::from_slice(&text)?;
        let latency = trained.latency.iter().map(|own| (own.batch, own.subnet_ms)).collect();
        summary["subnet"] = serde_json::to_value(Network {
            macs: trained.network.macs()?,
            params: trained.network.params()?,
            top1: trained.stage.top1,
            latency_ms: latency,
        })?;
        let finetuned = number(trained.stage.step_ms(Phase::Finetune));
        summary["search"]["finetune_step_ms_median"] = finetuned.into();
        summary["verification"] = serde_json::to_value(Verified::of(trained.verification))?;
        write_whole(path, &serde_json::to_vec_pretty(&summary)?)
    }

    /// The table and the kept architecture.
    pub fn print(&self) {
        let (d, s) = (&self.dense, &self.subnet);
        let [dense, own] = &self.sizes;
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
        println!("\nkept: embedding {} of {}", own.embed_dim, dense.embed_dim);
        println!("block     heads     head dim    hidden dim");
        for (block, (kept, all)) in own.blocks.iter().zip(&dense.blocks).enumerate() {
            println!(
                "{block:>5}   {:>2} of {:<2}   {:>3} of {:<3}   {:>4} of {:<4}",
                kept.heads, all.heads, kept.head_dim, all.head_dim, kept.hidden_dim, all.hidden_dim
            );
        }
        for budget in &self.budgets {
            let (unit, reached) = match budget.metric {
                Metric::Params => ("M parameters", s.params),
                _ => ("MMACs", s.macs),
            };
            println!("\nbudget {:.2} {unit} kept: {:.2}", budget.target / 1e6, reached / 1e6);
        }
        println!(
            "extracted and masked network differ by {:.1e} (allowed {:.1e})",
            self.verification.max_abs_logit_difference,
            self.verification.tolerance * self.verification.logit_scale,
        );
        if let Some(share) = self.search.waiting_for_data {
            println!("waiting for data took {:.1}% of the search's time", 100.0 * share);
        }
    }
}

impl Verified {
    fn of(verification: Verification) -> Self {
        Self {
            max_abs_logit_difference: verification.max_abs_logit_difference(),
            logit_scale: verification.logit_scale,
            tolerance: verification.tolerance,
        }
    }
}

impl Target {
    fn of(budget: &Budget) -> Self {
        Self { metric: budget.metric, target: budget.limit }
    }
}

/// Dense network and subnet in turn, at batch sizes 1 and 32.
pub fn latency(
    dense: &Subnet<VitConfig>,
    subnet: &Subnet<VitConfig>,
    feed: &Feed,
) -> once_for_both::Result<Vec<LatencyComparison>> {
    let [channels, height, width] = feed.shape;
    let measure = |batch: i64| {
        let images = Tensor::f_randn([batch, channels, height, width], (Kind::Float, feed.device))?;
        let dense = |images: &Tensor| dense.predict(images);
        LatencyComparison::measure(&dense, &|images| subnet.predict(images), &images, 20)
    };
    [1, 32].into_iter().map(measure).collect()
}

/// JSON has no NaN.
fn number(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn finished(stage: &Stage) -> Option<&Finished> {
    stage.events.iter().find_map(|event| match event {
        Event::Finished(finished) => Some(finished),
        _ => None,
    })
}
