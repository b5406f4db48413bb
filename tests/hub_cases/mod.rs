//! Repositories on a server of these tests.

mod answers;
mod fetching;
mod logs;
mod redirections;
mod server;
mod tool;

use crate::support::TestResult;
use server::{Repository, Server};
use std::path::{Path, PathBuf};

/// Name of the repository of these tests.
pub const NAME: &str = "timm/tiny";
/// Commit of its main branch.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The weights of a plain ViT of timm.
pub fn plain() -> TestResult<Vec<u8>> {
    Ok(std::fs::read(root().join("timm_plain.safetensors"))?)
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import")
}

/// A repository with weights and configuration.
pub fn repository() -> TestResult<Repository> {
    let config = br#"{"architecture": "vit_tiny_patch16_224", "model_args": {"num_heads": 2}}"#;
    let files = [("model.safetensors", plain()?), ("config.json", config.to_vec())];
    Ok(Repository::new(&files))
}

/// A server with [`repository`].
pub fn server() -> TestResult<Server> {
    Server::start(repository()?)
}
