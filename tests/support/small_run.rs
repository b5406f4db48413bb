//! A run of the pipeline with a small ViT on the images of this repository.

use super::{test_device, TestResult};
use once_for_both::models::VitConfig;
use once_for_both::pipeline::{Config, Feed, NetworkConfig, Pipeline};
use std::path::{Path, PathBuf};

/// The preset that [`SETTINGS`] change.
pub const PRESET: &str = include_str!("../../examples/deit_s/presets/demo.toml");

/// Settings of two blocks, four steps of training and eight of search.
pub const SETTINGS: [&str; 7] = [
    "network.embed_dim=32",
    "network.depth=2",
    "network.heads=2",
    "train.steps=4",
    "search.steps=8",
    "compare=false",
    "every.evaluation=100",
];

/// Returns the run of `config` in the folder `run`.
pub fn pipeline(config: Config, run: &Path) -> TestResult<Pipeline<'static, VitConfig>> {
    let network = NetworkConfig::of(&config)?;
    let images = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let feed = Feed::open(&images, &config.data, network.image_size, test_device())?;
    let dense = network.vit(feed.image_shape()[0], feed.classes())?;
    Ok(Pipeline::new(config, run, feed, dense)?)
}
