//! The report of a run.

use super::{saved, Outcome};
use crate::AnyError;
use once_for_both::models::{SwinConfig, VitConfig};
use once_for_both::pipeline::{
    classifier_family, write_report, Config, Family, NetworkConfig, RunFolder,
};
use std::path::Path;

pub fn report(run: &Path) -> Result<Outcome, AnyError> {
    let folder = RunFolder::new(run);
    let family = match classifier_family(run)? {
        Some(family) => family,
        // A folder without options is named by `write_report`.
        None if !folder.config().is_file() => Family::Vit,
        None => NetworkConfig::of(&Config::read(&folder.config())?)?.family,
    };
    let path = match family {
        Family::Swin => write_report::<SwinConfig>(&folder)?,
        Family::Vit => write_report::<VitConfig>(&folder)?,
    };
    saved(&path);
    Ok(Outcome::Finished)
}
