//! The images and the network of a command.

use super::Build;
use crate::AnyError;
use once_for_both::device;
use once_for_both::pipeline::{Config, Feed, ImageClassifier, NetworkConfig, Pipeline};
use std::path::{Path, PathBuf};

/// The configuration of a command that trains nothing: a run's teacher may be elsewhere by now.
pub fn untaught(config: Config) -> Config {
    Config { teacher: None, ..config }
}

/// Opens the images, and builds the dense network for them.
pub fn open<A: ImageClassifier>(
    config: Config,
    out: &Path,
    build: Build<A>,
) -> Result<Pipeline<'static, A>, AnyError> {
    let network = NetworkConfig::of(&config)?;
    let folder = match &config.data.folder {
        Some(folder) => folder.clone(),
        None if config.data.built_in => {
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/data")
        }
        None => return Err("images: got no folder, expected one: give --data FOLDER".into()),
    };
    let device = device::parse(&config.device)?;
    let feed = Feed::open(&folder, &config.data, network.image_size, device)?;
    let dense = build(&network, feed.image_shape()[0], feed.classes())?;
    Ok(Pipeline::new(config, out, feed, dense)?)
}
