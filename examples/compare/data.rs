//! Training images, and images to evaluate on.

use crate::options::Source;
use once_for_both::pipeline::{AugmentationPreset, DataConfig, Feed};
use once_for_both::Result;
use std::path::PathBuf;
use tch::Device;

/// Side of the images in pixels.
const SIDE: i64 = 28;

/// Opens the images, normalised by the training pixels.
pub fn open(source: &Source, device: Device) -> Result<Feed> {
    let built_in = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let folder = source.data.clone().unwrap_or_else(built_in);
    let light = DataConfig::new(AugmentationPreset::Light);
    let config =
        DataConfig { built_in: true, images: source.images, validation: source.validate, ..light };
    Feed::open(&folder, &config, SIDE, device)
}
