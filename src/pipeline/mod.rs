//! Training, search, fine-tuning, export and report of a network in a resumable run folder.
//!
//! [`Pipeline::run`] trains a dense network (or starts from given weights), searches it under a
//! budget, fine-tunes the subnet, verifies, exports and evaluates it, and writes everything into a
//! [`RunFolder`]. It works for every [`ImageClassifier`]: [`VitConfig`](crate::models::VitConfig),
//! [`SwinConfig`](crate::models::SwinConfig), or an architecture of your own (docs/wrapping.md). A run is described
//! by a [`Config`], which a [`Request`] resolves from a preset, a TOML file and single settings.
//! Images come from a [`Feed`]. The example `deit_s` is the command line of this module
//! (docs/guide.md).
//!
//! ```no_run
//! use once_for_both::models::VitConfig;
//! use once_for_both::pipeline::{Feed, Pipeline, PipelineOutcome, Request};
//! use std::path::Path;
//! use tch::Device;
//!
//! # fn main() -> once_for_both::Result<()> {
//! let preset = std::fs::read_to_string("my-run.toml").unwrap_or_default();
//! let config = Request { default_preset: preset, ..Request::default() }.resolve()?;
//! let feed = Feed::open(Path::new("images"), &config.data, 224, Device::Cpu)?;
//! let [channels, ..] = feed.image_shape();
//! let dense = VitConfig::deit_small().input(224, channels, 16).classes(feed.classes());
//! match Pipeline::new(config, "runs/a", feed, dense)?.run()? {
//!     PipelineOutcome::Finished { top1, .. } => println!("top-1 {:.1}%", 100.0 * top1),
//!     PipelineOutcome::Stopped => println!("stopped; run it again with resume(true)"),
//! }
//! # Ok(())
//! # }
//! ```

mod check;
mod config;
mod continuation;
mod corrupt_images;
mod data_config;
mod families;
mod feed;
mod feed_batches;
mod feed_checks;
mod feed_shards;
mod fingerprint;
mod flags;
mod forecast;
mod hub_weights;
mod import_config;
mod inspection;
mod judgement;
mod judging;
mod latency;
mod layers;
mod measured;
mod named_network;
mod network_config;
mod networks;
mod opening;
mod options;
mod overlay;
mod pinned;
mod plan;
mod progress;
mod report;
mod request;
mod run;
mod run_folder;
mod space_config;
mod stage;
mod stage_config;
mod stages;
mod start;
mod summary;
mod summary_table;

pub use crate::error::PipelineError;
pub use config::{BudgetConfig, Command, Config, Intervals, TeacherConfig};
pub use data_config::{AugmentationPreset, DataConfig, ShardsConfig};
pub use feed::Feed;
pub use feed_batches::FeedBatches;
pub use flags::Flags;
pub use import_config::ImportConfig;
pub use inspection::{
    inspect, inspect_family, ArtifactInspection, CheckpointInspection, Finding, InspectOptions,
    Inspection, LatencyInspection, PathInspection, RunInspection,
};
pub use judgement::Judgement;
pub use latency::{LatencyConfig, LatencySummary};
pub use network_config::{Depth, Family, NetworkConfig};
pub use networks::{classifier_family, expect_fits, stored_family, ImageClassifier};
pub use overlay::{expect_free, overlaid, parse_setting};
pub use progress::{Progress, StageStart};
pub use report::write_report;
pub use request::Request;
pub use run::{Pipeline, PipelineOutcome};
pub use run_folder::{expect_writable, RunFolder};
pub use space_config::{CandidateChoice, Factors, MultipleOf, SpaceConfig};
pub use stage_config::{Recipe, StageConfig};
pub use summary::{
    DataSummary, KeptSize, NetworkSummary, SearchSummary, Summary, VerificationSummary,
};

/// Options by name, as TOML and JSON have them.
pub type Settings = serde_json::Map<String, serde_json::Value>;
