mod archives;
mod authors;
mod containers;
mod entry_keys;
mod family;
mod family_table;
mod features;
mod finite;
mod fitting;
mod hostile;
mod inspections;
mod logits;
mod mutations;
mod names;
mod own_family;
mod parts;
mod pickles;
mod prefixes;
mod recognised;
mod refused;
mod swin;
mod swin_windows;
mod torch_files;

use super::support::tiny_run::alone;
use super::support::{test_device, TestResult};
use once_for_both::error::CheckpointError;
use once_for_both::import::{self, Import, ImportOptions, Pretrained, Weights};
use once_for_both::models::{Architecture, BlockConfig, Logits, Network, VitConfig};
use once_for_both::{Error, Result};
use std::path::{Path, PathBuf};
use tch::{nn, Tensor};

/// Heads of the networks that `make.py` builds.
const HEADS: i64 = 3;

/// [`import::load`] with libtorch's generator locked.
fn load<A: Pretrained>(path: &Path, config: &A, options: &ImportOptions) -> Result<Import> {
    into(&import::read(path)?, config, options)
}

/// [`import::into`] with libtorch's generator locked.
fn into<A: Pretrained>(weights: &Weights, config: &A, options: &ImportOptions) -> Result<Import> {
    let _alone = alone();
    import::into(weights, config, options)
}

/// Path of a file that `make.py` wrote.
fn data(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/import").join(file)
}

/// Configuration of the network that `make.py` builds with timm.
fn tiny() -> VitConfig {
    VitConfig {
        blocks: vec![BlockConfig::new(HEADS, 8, 48); 2],
        ..VitConfig::uniform(24, 2, HEADS).input(32, 3, 8).classes(5)
    }
}

/// Builds the network with these weights.
fn network<A: Architecture>(config: &A, weights: &Weights) -> TestResult<A::Network> {
    let _alone = alone();
    let store = nn::VarStore::new(test_device());
    let network = config.build(&store.root())?;
    for (name, mut variable) in store.variables() {
        let weight = weights.get(&name).ok_or_else(|| format!("no weight for {name}"))?;
        tch::no_grad(|| variable.f_copy_(weight))?;
    }
    Ok(network)
}

fn forward<A: Architecture>(config: &A, weights: &Weights, images: &Tensor) -> TestResult<Logits> {
    Ok(network(config, weights)?.forward(&images.f_to_device(test_device())?, false)?)
}

/// The error of reading a file.
#[track_caller]
fn refusal(path: &Path) -> CheckpointError {
    match import::read(path) {
        Err(Error::Checkpoint { path: named, source }) => {
            assert_eq!(named, path);
            *source
        }
        other => panic!("expected a refused checkpoint, got {other:?}"),
    }
}
