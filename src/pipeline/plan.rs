//! Plan of a stage: `plan.json`, written when it starts.

use super::families::{expect_family, family_in};
use super::fingerprint::as_json;
use super::run_folder::DENSE;
use super::{ImageClassifier, Pipeline};
use crate::error::PipelineError;
use crate::files::{if_there, read_json};
use crate::models::Architecture;
use crate::search::SearchOptions;
use crate::typed::first_difference;
use crate::Result;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// File name of a plan in the folder of its stage.
pub(super) const PLAN: &str = "plan.json";

/// Length, network and options of a stage.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StagePlan<A> {
    pub(super) name: String,
    pub(super) steps: u64,
    /// Family of the network; none in plans of versions before this field.
    #[serde(default)]
    pub(super) family: Option<String>,
    pub(super) network: A,
    /// All options of the library.
    #[serde(default)]
    pub(super) options: Option<SearchOptions>,
    /// Weights that the dense network was trained from; none for random ones, and for other stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trained_from: Option<PathBuf>,
}

impl<A: Architecture> StagePlan<A> {
    /// Reads the plan in the folder of a stage; `None` for a stage that has not begun.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(PLAN);
        if let Some(family) = family_in(&path)? {
            let advice = "read the run with the Architecture of its network";
            expect_family::<A>(&path, &family, advice)?;
        }
        if_there(read_json(&path))
    }
}

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// The plan of the training of the dense network; `None` if it has not begun.
    pub(super) fn dense_plan(&self) -> Result<Option<StagePlan<A>>> {
        StagePlan::read(&self.run.path().join(DENSE))
    }

    /// Refuses a dense network other than the one that the run trains from random weights. Weights that are given have a
    /// network of their own.
    pub(super) fn expect_same_network(&self) -> Result<()> {
        let plan = self.dense_plan()?.filter(|plan| plan.trained_from.is_none());
        match (plan, &self.config.weights) {
            (Some(plan), None) => self.expect_network(&self.dense, &plan.network),
            _ => Ok(()),
        }
    }

    /// Refuses a network other than the one that a stage of the run began with.
    pub(super) fn expect_network(&self, given: &A, saved: &A) -> Result<()> {
        let [given, saved] = [given, saved].map(|own| as_json("network", own));
        let (given, saved) = (given?, saved?);
        if given == saved {
            return Ok(());
        }
        let (name, given, saved) = first_difference("network", &given, &saved);
        let folder = self.run.path().into();
        Err(PipelineError::Changed { name, given, saved, folder }.into())
    }
}
