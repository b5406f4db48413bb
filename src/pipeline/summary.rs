//! Results of a run: `summary.json`.

use super::LatencySummary;
use crate::cost::{CostLimit, Metric};
use crate::files::{if_there, read_json};
use crate::space::Size;
use crate::Result;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::Path;

/// Results of a search, with the fine-tuning after it. Displayed as a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// Images.
    pub dataset: DataSummary,
    /// Seed of the run.
    pub seed: u64,
    /// Budgets, as amounts.
    #[serde(with = "targets")]
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
    /// Verification of the subnet's extraction, before fine-tuning.
    pub verification: VerificationSummary,
    /// Sizes of every dimension, in the order of the search space. Not stored.
    #[serde(skip)]
    pub sizes: Vec<KeptSize>,
}

/// Images of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    #[serde(default)]
    pub memory_bytes: BTreeMap<u64, u64>,
}

/// Length and times of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchSummary {
    /// Optimiser steps of search and fine-tuning in it.
    pub steps: u64,
    /// Optimiser steps after which every dimension was decided.
    pub decided_after: Option<u64>,
    /// Wall time in seconds; `None` for a search that was resumed.
    pub seconds: Option<f64>,
    /// Share of that time spent waiting for batches.
    pub waiting_for_data: Option<f64>,
    /// Median time of a step of the search, in milliseconds; NaN without one that was logged.
    #[serde(deserialize_with = "crate::search::number")]
    pub step_ms_median: f64,
    /// Median time of a step of the fine-tuning stage, or of fine-tuning within the search without one, in milliseconds.
    pub finetune_step_ms_median: Option<f64>,
    /// Median time of a step of the dense network, in milliseconds, where it was trained for
    /// comparison.
    pub plain_step_ms_median: Option<f64>,
}

/// Difference of the logits of subnet and masked network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

impl Summary {
    /// Reads the results of a run; `None` if there are none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        if_there(read_json(path))
    }
}

/// Budgets as `{metric, target}`.
mod targets {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Target {
        metric: Metric,
        target: f64,
    }

    pub(super) fn serialize<S: Serializer>(limits: &[CostLimit], to: S) -> Result<S::Ok, S::Error> {
        let target = |own: &CostLimit| Target { metric: own.metric, target: own.limit };
        to.collect_seq(limits.iter().map(target))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<CostLimit>, D::Error> {
        let limit = |own: Target| CostLimit { metric: own.metric, limit: own.target };
        Ok(Vec::deserialize(from)?.into_iter().map(limit).collect())
    }
}
