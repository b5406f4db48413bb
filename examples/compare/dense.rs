//! The dense network: that of a run, or trained where none is given.

use crate::bench::CALIBRATION;
use crate::family::Compared;
use crate::options::Options;
use crate::protocol::Protocol;
use crate::{terms, AnyError};
use once_for_both::pipeline::{Feed, RunFolder};
use once_for_both::search::{Checkpoints, Search, SearchOptions};
use once_for_both::subnet::Export;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};

/// Seed of the batches.
const SEED: u64 = 7;
/// File in the folder of `--dense` with what the network was trained with.
const TERMS: &str = "dense.json";

/// Trains the dense network, or reads it from the folder of `--dense`, and saves it in a temporary folder.
///
/// A network that was trained on other images, or in another way, is refused: it may have learned the images that judge
/// now.
pub fn train<A: Compared>(
    options: &Options,
    protocol: &Protocol,
    feed: &Feed,
) -> Result<tempfile::TempDir, AnyError> {
    let [channels, side, _] = feed.image_shape();
    let network = A::dense(side, channels, feed.classes());
    let training = protocol.dense_training();
    let terms = json!({
        "network": network,
        "options": training,
        "batch": protocol.batch,
        "data": terms::data(feed, options.source.validate),
    });
    let mut dense = match &options.dense {
        Some(folder) => {
            stored(folder, &terms, feed, || trained(network, training, protocol, feed))?
        }
        None => trained(network, training, protocol, feed)?,
    };
    let folder = tempfile::tempdir()?;
    let images = feed.calibration_batch(CALIBRATION)?;
    dense.extract(&images)?.save(folder.path(), &Export::f32())?;
    Ok(folder)
}

/// Returns the path of the dense network in a run folder, and every other path as it is.
pub fn in_run(path: PathBuf) -> PathBuf {
    let dense = RunFolder::new(&path).dense();
    match dense.is_dir() {
        true => dense,
        false => path,
    }
}

fn trained<A: Compared>(
    network: A,
    options: SearchOptions,
    protocol: &Protocol,
    feed: &Feed,
) -> Result<Search<A>, AnyError> {
    let mut dense = Search::of(network).options(options).device(feed.device()).build()?;
    dense.train(&mut feed.batches(protocol.batch, SEED)?, &mut ())?;
    Ok(dense)
}

/// Returns the network in `folder`, which `train` trains where there is none.
fn stored<A: Compared>(
    folder: &Path,
    terms: &Value,
    feed: &Feed,
    train: impl FnOnce() -> Result<Search<A>, AnyError>,
) -> Result<Search<A>, AnyError> {
    let checkpoints = Checkpoints::new(folder, 1);
    // Before the network is trained.
    checkpoints.claim()?;
    let file = folder.join(TERMS);
    if let Some(saved) = checkpoints.resume(feed.device())? {
        let own: Value = std::fs::read(&file)
            .map_err(AnyError::from)
            .and_then(|text| Ok(serde_json::from_slice(&text)?))
            .map_err(|error| {
                refused(folder, &format!("{TERMS}: {error}, expected what it was trained with"))
            })?;
        return match difference("", &own, terms) {
            None => Ok(saved.search),
            Some(difference) => Err(refused(folder, &difference)),
        };
    }
    let dense = train()?;
    std::fs::write(&file, serde_json::to_vec_pretty(terms)?)
        .map_err(|error| refused(folder, &format!("{TERMS}: cannot be written: {error}")))?;
    checkpoints.save(&dense)?;
    Ok(dense)
}

fn refused(folder: &Path, reason: &str) -> AnyError {
    format!("--dense {}: {reason}; give another folder", folder.display()).into()
}

/// Names the first value that differs, with both.
fn difference(name: &str, own: &Value, expected: &Value) -> Option<String> {
    if let (Some(own), Some(expected)) = (own.as_object(), expected.as_object()) {
        let names = expected.keys().chain(own.keys().filter(|name| !expected.contains_key(*name)));
        return names
            .filter_map(|field| {
                let of = |all: &serde_json::Map<String, Value>| {
                    all.get(field).cloned().unwrap_or_default()
                };
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                difference(&name, &of(own), &of(expected))
            })
            .next();
    }
    (own != expected).then(|| format!("{name}: was trained with {own}, expected {expected}"))
}
