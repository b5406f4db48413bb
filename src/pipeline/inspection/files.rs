//! Files of a run beside its networks and checkpoints, read as the run, its fine-tuning and its report read them.

use super::folders::{part, ADVICE};
use super::PathInspection;
use crate::files::{if_there, read_json};
use crate::models::{Architecture, SwinConfig, VitConfig};
use crate::pipeline::corrupt_images::{Names, CORRUPT};
use crate::pipeline::families::KnownFamily;
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::plan::{StagePlan, PLAN};
use crate::pipeline::{RunFolder, Summary};
use crate::search::{read_events, METRICS};
use crate::sensitivity::Sensitivity;
use crate::Result;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Reads the files of a run and of its stages, as far as they are there.
pub(super) fn inspect<A: Architecture>(run: &RunFolder) -> Vec<PathInspection<()>> {
    let mut files = vec![
        readable::<Fingerprint>(run.data()),
        readable::<Summary>(run.summary()),
        readable::<Sensitivity>(run.sensitivity()),
    ];
    for stage in run.stages() {
        let (plan, events) = (stage.join(PLAN), stage.join(METRICS));
        files.push((readable_plan::<A>(&plan), plan));
        files.push((read_events(&events).map(drop), events));
        files.push(readable::<Names>(stage.join(CORRUPT)));
    }
    let there =
        files.into_iter().filter_map(|(read, path)| Some((if_there(read).transpose()?, path)));
    there.map(|(read, path)| part(run.path(), &path, read)).collect()
}

fn readable<T: DeserializeOwned>(path: PathBuf) -> (Result<()>, PathBuf) {
    (read_json::<T>(&path).map(drop), path)
}

/// Reads the plan of a stage.
fn readable_plan<A: Architecture>(path: &Path) -> Result<()> {
    match KnownFamily::of::<A>(path, ADVICE)? {
        KnownFamily::Own => read_json::<StagePlan<A>>(path).map(drop),
        KnownFamily::Vit => read_json::<StagePlan<VitConfig>>(path).map(drop),
        KnownFamily::Swin => read_json::<StagePlan<SwinConfig>>(path).map(drop),
    }
}
