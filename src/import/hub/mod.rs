//! Weights by their name on the Hugging Face Hub, in the cache that Python's `huggingface_hub` has.
//!
//! ```no_run
//! # #[cfg(feature = "hub")]
//! # fn main() -> once_for_both::Result<()> {
//! use once_for_both::import::{self, hub, ImportOptions};
//!
//! let files = hub::fetch("facebook/dinov2-small")?;
//! let found = import::inspect_file(&files.weights, &ImportOptions::default(), None)?;
//! println!("{:?} of commit {}", found.network, files.commit);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "hub"))]
//! # fn main() {}
//! ```
//!
//! Environment, as in Python:
//!
//! | variable | meaning |
//! |---|---|
//! | `HF_ENDPOINT` | address of the hub or of a mirror; default `https://huggingface.co`. User and password in it (`https://USER:PASSWORD@HOST`) are sent in place of the token |
//! | `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME` | folder of the cache; default `$HF_HOME/hub`, of `HF_HOME` `$XDG_CACHE_HOME/huggingface`, and of `XDG_CACHE_HOME` `~/.cache` |
//! | `HF_HUB_OFFLINE` | 1: the cache alone is read |
//! | `HF_TOKEN` | token for private and gated repositories; default that in `$HF_HOME/token` |
//!
//! What is in the cache, weights and `config.json`, is taken without asking the hub; a branch that
//! has moved since is not noticed. Name a commit or tag as the revision to choose one.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod client;
mod name;
#[cfg(feature = "hub")]
mod options;
#[cfg(feature = "hub")]
mod requests;

pub use crate::error::HubError;
pub use name::HubName;
#[cfg(feature = "hub")]
pub use options::{fetch, Hub, HubFiles};

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Returns the path of weights that are given as a path, which may not exist, or as `hub:` and a
/// name, whose files are fetched. A path that exists is never a name.
///
/// # Errors
/// [`Error::Hub`] if the files of a name cannot be fetched; [`HubError::FeatureMissing`] for a name
/// without the feature `hub`.
pub fn local(path: &Path) -> Result<PathBuf> {
    let name = path.to_str().filter(|text| text.starts_with(name::PREFIX));
    let Some(name) = name.filter(|_| path.symlink_metadata().is_err()) else {
        return Ok(path.into());
    };
    fetched(name)
}

#[cfg(feature = "hub")]
fn fetched(name: &str) -> Result<PathBuf> {
    Ok(Hub::from_env()?.progress(true).fetch(name)?.weights)
}

#[cfg(not(feature = "hub"))]
fn fetched(name: &str) -> Result<PathBuf> {
    name.parse::<HubName>().map_err(|source| refused(name, source))?;
    Err(refused(name, HubError::FeatureMissing))
}

fn refused(name: &str, source: HubError) -> Error {
    Error::Hub { name: name.into(), source: Box::new(source) }
}

#[cfg(all(test, not(feature = "hub")))]
mod tests {
    use super::*;

    #[test]
    fn name_without_the_feature_is_refused_by_the_feature() {
        let refused = local(Path::new("hub:facebook/dinov2-small"));
        assert!(matches!(
            refused,
            Err(Error::Hub { source, .. }) if matches!(*source, HubError::FeatureMissing)
        ));
    }
}
