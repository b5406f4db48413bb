//! Weights of other programs, images, and paths that are neither.

mod images;
mod weights;

use once_for_both::pipeline::{inspect, InspectOptions, Inspection};
use std::path::{Path, PathBuf};

/// Path of a file of the repository.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The inspection of a path by default options.
pub fn look(path: &Path) -> once_for_both::Result<Inspection> {
    inspect(path, &InspectOptions::default())
}
