//! Training images, and images to evaluate on.

use crate::options::Source;
use once_for_both::data::transform::EvalTransform;
use once_for_both::data::DEFAULT_CORRUPT_IMAGES;
use once_for_both::pipeline::{AugmentationPreset, DataConfig, Feed, ShardsConfig};
use once_for_both::Result;
use std::path::PathBuf;
use tch::Device;

/// Side of the images in pixels.
const SIDE: i64 = 28;

/// Opens the images, normalised by the training pixels.
pub fn open(source: &Source, device: Device) -> Result<Feed> {
    let built_in = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let folder = source.data.clone().unwrap_or_else(built_in);
    let config = DataConfig {
        folder: None,
        built_in: true,
        images: source.images,
        validation: source.validate,
        augmentation: AugmentationPreset::Light,
        mean: Vec::new(),
        std: Vec::new(),
        workers: None,
        max_pixels: None,
        crop_share: EvalTransform::SHARE,
        corrupt_images: DEFAULT_CORRUPT_IMAGES,
        shards: ShardsConfig::default(),
    };
    Feed::open(&folder, &config, SIDE, device)
}
