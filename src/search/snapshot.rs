//! The state of a search as files, state.json, tensors.safetensors and checksums.sfv: writing.

use super::checkpoint::CHECKPOINT;
use super::events::Phase;
use super::options::SearchOptions;
use super::step::Search;
use super::update::NonFiniteCounts;
use crate::components::ComponentIds;
use crate::cost::CostLimit;
use crate::latency::LatencyModel;
use crate::models::Architecture;
use crate::optim::Ema;
use crate::space::{SearchSpace, Size, Sizes};
use crate::supernet::{DimensionState, FadeOut, Weights};
use crate::tensors::widened;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const FORMAT: &str = "once-for-both/checkpoint";
pub(super) const VERSION: u32 = 3;
pub(super) const STATE: &str = "state.json";
pub(super) const TENSORS: &str = "tensors.safetensors";

/// Everything of a checkpoint that is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State<A> {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) family: String,
    pub(super) step: u64,
    pub(super) phase: Phase,
    pub(super) architecture: A,
    pub(super) space: SearchSpace,
    pub(super) dense: Sizes,
    pub(super) dimensions: Vec<DimensionRecord>,
    pub(super) pmim: bool,
    /// AdamW's update count of each parameter.
    pub(super) updates: BTreeMap<String, u64>,
    pub(super) limits: Vec<CostLimit>,
    pub(super) options: SearchOptions,
    pub(super) components: ComponentIds,
    /// Architecture and search space that the search was built with.
    pub(super) origin: Value,
    /// Dimensions decided by projection.
    pub(super) projected: usize,
    /// Skipped steps.
    pub(super) non_finite: NonFiniteCounts,
    /// Updates of the EMA.
    pub(super) ema_updates: u64,
    /// Latency of the networks, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) latency: Option<LatencyModel>,
    /// Whether variables are learned, where that is not as the network is built.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) learned: BTreeMap<String, bool>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DimensionRecord {
    pub(super) active: Vec<bool>,
    pub(super) candidates_at_start: usize,
    pub(super) origin: Vec<i64>,
    pub(super) fade_out: Option<FadeOutRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FadeOutRecord {
    pub(super) since: u64,
    pub(super) size: Size,
    pub(super) kept: Vec<i64>,
    pub(super) in_place: bool,
}

impl<A: Architecture> Search<A> {
    /// Writes the state into a folder, with the checksums of all files in it.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let state = self.state()?;
        let json = serde_json::to_vec_pretty(&state).map_err(|e| Error::file(folder, e))?;
        let path = folder.join(STATE);
        crate::files::write(&path, &json)?;
        crate::tensors::write(&folder.join(TENSORS), &self.tensors()?)?;
        crate::checksums::write(folder, CHECKPOINT.files)
    }

    /// Returns everything of the state that is not a tensor.
    pub(super) fn state(&self) -> Result<State<A>> {
        let supernet = &self.supernet;
        let fade_out = |fade_out: &FadeOut| -> Result<FadeOutRecord> {
            Ok(FadeOutRecord {
                since: fade_out.since,
                size: fade_out.size,
                kept: fade_out.kept().to_vec(),
                in_place: fade_out.in_place,
            })
        };
        let record = |state: &DimensionState| -> Result<DimensionRecord> {
            Ok(DimensionRecord {
                active: state.active.flags().to_vec(),
                candidates_at_start: state.candidates_at_start,
                origin: state.origin.clone(),
                fade_out: state.fade_out.as_ref().map(fade_out).transpose()?,
            })
        };
        Ok(State {
            format: FORMAT.into(),
            version: VERSION,
            family: A::FAMILY.into(),
            step: self.step,
            phase: self.phase,
            architecture: supernet.architecture().clone(),
            space: supernet.declared_space(),
            dense: supernet.cost_model().dense.clone(),
            dimensions: supernet.states().iter().map(record).collect::<Result<_>>()?,
            pmim: supernet.reconstruction().is_some(),
            updates: self.optimiser.moments().map(|(name, m)| (name.clone(), m.steps)).collect(),
            limits: self.limits.clone(),
            options: self.options.clone(),
            components: self.components.ids(),
            origin: self.origin.clone(),
            projected: self.projected,
            non_finite: self.non_finite.counts()?,
            ema_updates: self.ema.as_ref().map_or(0, Ema::updates),
            latency: self.latency_model().cloned(),
            learned: supernet.set_since_built(),
        })
    }

    /// Returns the tensors of the state, under prefixed names.
    pub(super) fn tensors(&self) -> Result<Weights> {
        let mut tensors = Weights::new();
        for (name, weight) in self.supernet.raw_weights() {
            tensors.insert(format!("weight/{name}"), weight);
        }
        for state in self.supernet.states() {
            tensors.insert(format!("score/{}", state.name), state.score.shallow_clone());
            tensors.insert(format!("alpha/{}", state.name), state.alpha.shallow_clone());
            if let Some(pruned_importance) = &state.pruned_importance {
                tensors.insert(
                    format!("pruned_importance/{}", state.name),
                    pruned_importance.shallow_clone(),
                );
            }
            if let Some(fade_out) = &state.fade_out {
                tensors.insert(
                    format!("from/{}", state.name),
                    fade_out.initial_gates().shallow_clone(),
                );
            }
        }
        let supernet = &self.supernet;
        let evidence = self.evidence.of_dimensions(supernet.space())?;
        for (state, effects) in supernet.states().iter().zip(evidence) {
            tensors.insert(format!("evidence/{}", state.name), effects);
        }
        for (name, moments) in self.optimiser.moments() {
            tensors.insert(format!("first/{name}"), moments.first.shallow_clone());
            tensors.insert(format!("second/{name}"), moments.second.shallow_clone());
        }
        for (name, weight) in self.teaching.dense_weights().into_iter().flatten() {
            tensors.insert(format!("dense/{name}"), widened(weight)?);
        }
        for (name, mean) in self.ema.iter().flat_map(Ema::values) {
            tensors.insert(format!("ema/{name}"), mean.shallow_clone());
        }
        Ok(tensors)
    }
}
