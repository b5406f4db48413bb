//! Checkpoints in a folder of transformers: one file, or several with an index.

use super::head::Head;
use super::{read_archive, read_file, safetensors, Checkpoint, Container, Source};
use crate::error::CheckpointError;
use crate::subnet::ARTIFACT;
use crate::tensors::Weights;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Files of a folder that hold its weights or their index, the first that there is counts.
pub(in crate::import) const FILES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// Files of other programs that weights can be in, with what they are and what to do.
const OTHERS: [(&str, &str, &str); 7] = [
    ("adapter_model.safetensors", "a folder with an adapter of PEFT", MERGE),
    ("adapter_model.bin", "a folder with an adapter of PEFT", MERGE),
    ("tf_model.h5", "a folder with weights of TensorFlow alone (tf_model.h5)", FROM_TENSORFLOW),
    ("flax_model.msgpack", "a folder with weights of Flax alone (flax_model.msgpack)", FROM_FLAX),
    ("model.onnx", "a folder with an ONNX file alone", OF_TORCH),
    ("model.ckpt.index", "a folder with weights of TensorFlow alone (model.ckpt)", OF_TORCH),
    ("rust_model.ot", "a folder with weights of rust-bert alone (rust_model.ot)", OF_TORCH),
];
const MERGE: &str =
    "merge it in Python, model.merge_and_unload().save_pretrained(FOLDER), and give \
    that folder";
const FROM_TENSORFLOW: &str = "convert it in Python, from_pretrained(FOLDER, from_tf=True) and \
    save_pretrained, and give that folder";
const FROM_FLAX: &str = "convert it in Python, from_pretrained(FOLDER, from_flax=True) and \
    save_pretrained, and give that folder";
const OF_TORCH: &str = "give a folder or file with the weights for PyTorch, model.safetensors or \
    pytorch_model.bin";
/// Longest index, in bytes: that of a model of 100,000 tensors has about 10 MB.
const MAX_INDEX: u64 = 16 << 20;

/// The file in which each tensor is.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads the weights of a folder of transformers.
pub(super) fn read_folder(
    folder: &Path,
    wanted: Option<&str>,
) -> Result<Checkpoint, CheckpointError> {
    if is_artifact(folder) {
        return Err(CheckpointError::NotWeights {
            found: "an artifact of this crate",
            advice: "load it by Subnet::load",
        });
    }
    if ARTIFACT.lost_mark(folder) {
        return Err(CheckpointError::NotWeights {
            found: "an artifact of this crate without its config.json",
            advice: "copy the folder again",
        });
    }
    let path = weights(folder).ok_or_else(|| unreadable(folder))?;
    read_file(&path, File::open(&path)?, wanted)
}

/// Whether a folder is one of transformers with weights: with a `config.json` that is not this
/// crate's, or without one.
pub(super) fn holds_weights(folder: &Path) -> bool {
    let is_whole = || !folder.join("config.json").exists() || config(folder).is_some();
    weights(folder).is_some() && !is_own(folder) && is_whole()
}

/// Whether a folder is one of another program for weights that are not read here, so that reading it
/// says what it is: it has one of the files in [`OTHERS`], or the configuration of transformers.
pub(super) fn holds_other_weights(folder: &Path) -> bool {
    let is_there = |(name, _, _): &(&str, &str, &str)| folder.join(name).is_file();
    weights(folder).is_none()
        && !is_own(folder)
        && (OTHERS.iter().any(is_there) || has_model(folder))
}

fn unreadable(folder: &Path) -> CheckpointError {
    match OTHERS.iter().find(|(name, _, _)| folder.join(name).is_file()) {
        Some(&(_, found, advice)) => CheckpointError::NotWeights { found, advice },
        None => CheckpointError::NoWeights,
    }
}

/// Whether there is the configuration of a model of transformers.
fn has_model(folder: &Path) -> bool {
    let text = config(folder);
    text.is_some_and(|config| {
        ["model_type", "architectures"].iter().any(|key| config.get(key).is_some())
    })
}

fn is_own(folder: &Path) -> bool {
    is_artifact(folder) || ARTIFACT.lost_mark(folder)
}

/// The `config.json` of a folder, if it is a file with JSON.
fn config(folder: &Path) -> Option<Value> {
    let path = folder.join("config.json");
    path.is_file().then(|| File::open(path).ok()).flatten().and_then(|file| json(file).ok())
}

fn weights(folder: &Path) -> Option<PathBuf> {
    FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

fn is_artifact(folder: &Path) -> bool {
    config(folder).as_ref().is_some_and(is_of_artifact)
}

/// Whether a configuration is one of this crate.
pub(in crate::import) fn is_of_artifact(config: &Value) -> bool {
    let format = config.get("format").and_then(Value::as_str);
    format.is_some_and(|format| format.starts_with("once-for-both/"))
}

fn json(file: File) -> Result<Value, CheckpointError> {
    let mut text = Vec::new();
    file.take(MAX_INDEX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_INDEX {
        let (what, actual) = ("a JSON file".into(), text.len() as u64);
        return Err(CheckpointError::TooLarge { what, limit: MAX_INDEX, actual });
    }
    serde_json::from_slice(&text).map_err(|error| CheckpointError::Index {
        expected: "JSON with an object weight_map",
        found: error.to_string(),
    })
}

/// Returns the names of the files of an index.
#[cfg(feature = "hub")]
pub(in crate::import) fn names(index: &Path) -> Result<BTreeSet<String>, CheckpointError> {
    let names: BTreeSet<String> =
        self::index(File::open(index)?)?.weight_map.into_values().collect();
    match names.iter().find(|name| !is_beside(name)) {
        Some(name) => Err(elsewhere(name)),
        None => Ok(names),
    }
}

fn index(file: File) -> Result<Index, CheckpointError> {
    let text = json(file)?;
    if text.get("weight_map").is_none() {
        return Err(CheckpointError::NotWeights {
            found: "a JSON file without weight_map, such as config.json",
            advice: "give the path of model.safetensors, or of its folder",
        });
    }
    crate::typed::from_value(text).map_err(|error| CheckpointError::Index {
        expected: "names of files as the values of weight_map",
        found: error.to_string(),
    })
}

/// Reads all files of an index. Every tensor has to be where the index says, and nowhere else.
pub(super) fn read_index(path: &Path, file: File) -> Result<Checkpoint, CheckpointError> {
    let index = index(file)?;
    let files: BTreeSet<&String> = index.weight_map.values().collect();
    expect_all(path, &files)?;
    let mut weights = Weights::new();
    for &file in &files {
        let shard = read_shard(path, file).map_err(|source| CheckpointError::Shard {
            file: file.clone(),
            source: Box::new(source),
        })?;
        for (name, tensor) in shard {
            if index.weight_map.get(&name) != Some(file) {
                return Err(CheckpointError::Index {
                    expected: "every tensor of its files, each in one file",
                    found: format!("no entry for {name} in {file}"),
                });
            }
            weights.insert(name, tensor);
        }
    }
    match index.weight_map.iter().find(|(name, _)| !weights.contains_key(*name)) {
        Some((name, file)) => Err(CheckpointError::Index {
            expected: "tensors that are in their files",
            found: format!("{name}, which is not in {file}"),
        }),
        None => {
            let files = files.into_iter().cloned().collect();
            let source = Source { files, ..Source::whole(Container::Shards, path) };
            Ok(Checkpoint { weights, source })
        }
    }
}

/// Refuses an index whose files are not all there, before the first of them is read.
fn expect_all(index: &Path, files: &BTreeSet<&String>) -> Result<(), CheckpointError> {
    let is_missing = |name: &&&String| {
        is_beside(name) && matches!(index.with_file_name(name).try_exists(), Ok(false))
    };
    match files.iter().find(is_missing) {
        Some(name) => Err(CheckpointError::Index {
            expected: "all of its files beside it; fetch that file, too",
            found: format!("no file {name}"),
        }),
        None => Ok(()),
    }
}

/// Whether a name is that of a file beside the index.
fn is_beside(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

fn elsewhere(name: &str) -> CheckpointError {
    let (expected, found) = ("a file beside it, without a folder", format!("{name:?}"));
    CheckpointError::Index { expected, found }
}

/// Reads a file beside the index.
fn read_shard(index: &Path, name: &str) -> Result<Weights, CheckpointError> {
    if !is_beside(name) {
        return Err(elsewhere(name));
    }
    let path = index.with_file_name(name);
    if !std::fs::metadata(&path)?.is_file() {
        return Err(super::head::NO_FILE);
    }
    let mut file = File::open(&path)?;
    match Head::read(&mut file)? {
        (Head::Safetensors, length) => safetensors::read(file, length),
        (Head::Zip, _) => Ok(read_archive(&path, file, None)?.weights),
        (Head::Json, _) => Err(CheckpointError::Index {
            expected: "files of tensors",
            found: format!("{name}, which is another index"),
        }),
    }
}
