//! Networks from disk: folders written here, and checkpoints of others.

use crate::feed::Feed;
use crate::AnyError;
use once_for_both::components::Teacher;
use once_for_both::import::{self, ImportOptions};
use once_for_both::models::VitConfig;
use once_for_both::search::{Method, SearchOptions};
use once_for_both::subnet::{Subnet, SubnetTeacher};
use once_for_both::Result;
use std::path::{Path, PathBuf};
use tch::Device;

/// A network to learn from.
pub type VitTeacher = SubnetTeacher<VitConfig>;

/// What fine-tuning leaves in a run's folder.
pub const FINETUNED: &str = "finetune/network";
/// What the search leaves.
pub const SUBNET: &str = "subnet";
/// What dense training leaves.
pub const DENSE: &str = "dense/network";

/// The newest network of a run's folder, if there is one.
pub fn newest(run: &Path) -> Option<PathBuf> {
    [FINETUNED, SUBNET, DENSE].map(|name| run.join(name)).into_iter().find(|path| is_network(path))
}

fn is_network(folder: &Path) -> bool {
    folder.join("config.json").is_file()
}

/// A network from a run's folder, a network's folder, or a checkpoint of timm or transformers, which
/// is fitted to `architecture`.
pub fn load(
    path: &Path,
    architecture: &VitConfig,
    seed: u64,
    device: Device,
) -> Result<Subnet<VitConfig>, AnyError> {
    if path.is_file() {
        let options = ImportOptions { seed, ..ImportOptions::default() };
        let import = import::load(path, architecture, &options)?;
        tell(path, &import.report);
        return Ok(Subnet::new(architecture.clone(), &import.weights, device)?);
    }
    let folder = folder_of(path).ok_or_else(|| {
        let there = if path.exists() { "holds no network" } else { "is not there" };
        format!("{} {there}: expected a run, a network's folder, or a checkpoint", path.display())
    })?;
    Ok(Subnet::load(&folder, device)?)
}

/// The folder of a network: the path itself, or the newest network of the run it is.
pub fn folder_of(path: &Path) -> Option<PathBuf> {
    match is_network(path) {
        true => Some(path.to_path_buf()),
        false => newest(path),
    }
}

/// A network to learn from, as it is: nothing of it is fitted to the student, nothing is fresh.
pub fn load_teacher(path: &Path, device: Device) -> Result<Subnet<VitConfig>, AnyError> {
    if !path.is_file() {
        return load(path, &VitConfig::deit_small(), 0, device);
    }
    let weights = import::read(path)?;
    let own = import::inspect(&weights, None)?;
    let options = ImportOptions { strict: true, ..ImportOptions::default() };
    let import = import::into(&weights, &own, &options)?;
    Ok(Subnet::new(own, &import.weights, device)?)
}

fn tell(path: &Path, report: &import::ImportReport) {
    eprintln!(
        "{}: {} tensors taken, {} resized, {} replaced, {} fresh, {} left out",
        path.display(),
        report.loaded.len(),
        report.resized.len(),
        report.replaced.len(),
        report.missing.len(),
        report.skipped.len()
    );
}

/// Refuses a network for other images or classes than there are.
pub fn expect_fits(network: &VitConfig, feed: &Feed, whose: &str) -> Result<(), AnyError> {
    let takes = [network.in_channels, network.image_size, network.image_size];
    if takes != feed.shape {
        return Err(
            format!("{whose} takes images of {takes:?}, the data has {:?}", feed.shape).into()
        );
    }
    if network.classes != feed.classes {
        return Err(format!(
            "{whose} tells {} classes apart, the data has {}",
            network.classes, feed.classes
        )
        .into());
    }
    Ok(())
}

/// The library's method with this teacher, if there is one.
pub fn taught(teacher: Option<VitTeacher>) -> impl Fn(&SearchOptions) -> Result<Method> + Clone {
    move |options| {
        let teacher = teacher.clone().map(|teacher| Box::new(teacher) as Box<dyn Teacher>);
        Ok(Method { teacher, ..Method::of(options)? })
    }
}
