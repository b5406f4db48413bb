//! A run on disk: written beside and renamed, so that the newest checkpoint is always whole.

use super::event::Phase;
use super::method::Method;
use super::options::SearchOptions;
use super::session::Session;
use crate::cost::Budget;
use crate::files::{remove_folder, write_folder};
use crate::models::Architecture;
use crate::optim::Moments;
use crate::space::{ActiveSet, SearchSpace, Sizes};
use crate::supernet::{DimensionState, Supernet, Weights};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tch::{Device, Tensor};

const FORMAT: &str = "once-for-both/checkpoint";
const VERSION: u32 = 1;
const STATE: &str = "state.json";
const TENSORS: &str = "tensors.safetensors";

/// Everything of a checkpoint that is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
struct State<A> {
    format: String,
    version: u32,
    family: String,
    step: u64,
    phase: Phase,
    architecture: A,
    space: SearchSpace,
    dense: Sizes,
    dimensions: Vec<DimensionRecord>,
    pmim: bool,
    /// Updates AdamW has made to each parameter.
    updates: BTreeMap<String, u64>,
    budgets: Vec<Budget>,
    options: SearchOptions,
    /// The method in words.
    method: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct DimensionRecord {
    active: Vec<bool>,
    origin: Vec<i64>,
}

/// The checkpoints of a run: a folder of folders `step-00000042`.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Checkpoints in `folder`, of which the newest `keep` are kept.
    pub fn new(folder: impl Into<PathBuf>, keep: usize) -> Self {
        Self { folder: folder.into(), keep: keep.max(1) }
    }

    /// Writes the session's state, then removes what is too old.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Torch`] if it cannot be written; earlier checkpoints stay.
    pub fn save<A: Architecture>(&self, session: &Session<A>) -> Result<PathBuf> {
        let path = self.folder.join(format!("step-{:08}", session.step));
        write_folder(&path, |folder| session.write(folder))?;
        let mut all = list(&self.folder)?;
        all.sort();
        let surplus = all.len().saturating_sub(self.keep);
        all[..surplus].iter().try_for_each(|old| remove_folder(old))?;
        Ok(path)
    }
}

/// The newest checkpoint in a folder, if there is one.
///
/// # Errors
/// [`Error::Io`] if the folder exists and cannot be read.
pub fn latest_checkpoint(folder: &Path) -> Result<Option<PathBuf>> {
    Ok(list(folder)?.into_iter().max())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("read", folder, source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::io("read", folder, source))?;
        let name = entry.file_name();
        let digits = name.to_string_lossy().strip_prefix("step-").map(str::to_string);
        if digits.is_some_and(|digits| digits.parse::<u64>().is_ok()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

impl<A: Architecture> Session<A> {
    fn write(&self, folder: &Path) -> Result<()> {
        let state = self.state();
        let json = serde_json::to_vec_pretty(&state).map_err(|e| Error::file(folder, e))?;
        let path = folder.join(STATE);
        std::fs::write(&path, json).map_err(|source| Error::io("write", path, source))?;
        crate::tensors::write(&folder.join(TENSORS), &self.tensors()?)
    }

    fn state(&self) -> State<A> {
        let supernet = &self.supernet;
        let record = |state: &DimensionState| DimensionRecord {
            active: state.active.flags().to_vec(),
            origin: state.origin.clone(),
        };
        State {
            format: FORMAT.into(),
            version: VERSION,
            family: A::FAMILY.into(),
            step: self.step,
            phase: self.phase,
            architecture: supernet.architecture().clone(),
            space: supernet.declared_space(),
            dense: supernet.cost_model().dense.clone(),
            dimensions: supernet.states().iter().map(record).collect(),
            pmim: supernet.reconstruction().is_some(),
            updates: self
                .optimiser
                .moments()
                .iter()
                .map(|(name, m)| (name.clone(), m.steps))
                .collect(),
            budgets: self.budgets.clone(),
            options: self.options.clone(),
            method: self.method.describe(),
        }
    }

    fn tensors(&self) -> Result<Weights> {
        let mut tensors = Weights::new();
        for (name, weight) in self.supernet.raw_weights() {
            tensors.insert(format!("weight/{name}"), weight);
        }
        for state in self.supernet.states() {
            tensors.insert(format!("score/{}", state.name), state.score.shallow_clone());
            tensors.insert(format!("alpha/{}", state.name), state.alpha.shallow_clone());
            if let Some(departed) = &state.departed {
                tensors.insert(format!("departed/{}", state.name), departed.shallow_clone());
            }
        }
        for (name, moments) in self.optimiser.moments() {
            tensors.insert(format!("first/{name}"), moments.first.shallow_clone());
            tensors.insert(format!("second/{name}"), moments.second.shallow_clone());
        }
        Ok(tensors)
    }

    /// Goes on from a checkpoint; the rest of the run equals an uninterrupted one.
    ///
    /// # Errors
    /// [`Error::File`] if the checkpoint is damaged, foreign or of a newer version.
    pub fn resume(checkpoint: &Path, device: Device) -> Result<Self> {
        Self::resume_with(Method::of, checkpoint, device)
    }

    /// Goes on from a checkpoint of a session with a method of its own.
    ///
    /// # Errors
    /// Those of [`resume`](Self::resume); [`Error::File`] if the checkpoint was made with another
    /// method, in the words of its `Debug`.
    pub fn resume_with(
        method: impl FnOnce(&SearchOptions) -> Result<Method>,
        checkpoint: &Path,
        device: Device,
    ) -> Result<Self> {
        let path = checkpoint.join(STATE);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        check_version(&path, &text)?;
        let state: State<A> = serde_json::from_str(&text).map_err(|e| Error::file(&path, e))?;
        let method = method(&state.options)?;
        if method.describe() != state.method {
            let (made, given) = (&state.method, method.describe());
            return Err(Error::file(path, format!("made with {made}, resumed with {given}")));
        }
        let tensors = crate::tensors::read(&checkpoint.join(TENSORS), device)?;
        Self::restore(state, &tensors, method, device)
            .map_err(|error| Error::file(checkpoint, format!("damaged checkpoint: {error}")))
    }

    fn restore(state: State<A>, tensors: &Weights, method: Method, device: Device) -> Result<Self> {
        let mut supernet =
            Supernet::restore(state.architecture, state.space, state.dense, state.pmim, device)?;
        supernet.weigh_by(Rc::clone(&method.bi_mask));
        supernet.load_weights(&with_prefix(tensors, "weight/"))?;
        let departed = with_prefix(tensors, "departed/");
        let (scores, alphas) = (with_prefix(tensors, "score/"), with_prefix(tensors, "alpha/"));
        for (own, record) in supernet.states_mut().iter_mut().zip(state.dimensions) {
            own.set_score(find(&scores, &own.name.clone())?)?;
            own.set_alpha(find(&alphas, &own.name.clone())?)?;
            own.active = ActiveSet::new(own.cells(), record.active, device)?;
            own.origin = record.origin;
            own.departed = departed.get(&own.name).map(Tensor::shallow_clone);
        }
        let mut session = Self::assemble(supernet, state.budgets, state.options, method)?;
        (session.step, session.phase) = (state.step, state.phase);
        session.timer.1 = state.step;
        let (first, second) = (with_prefix(tensors, "first/"), with_prefix(tensors, "second/"));
        for (name, steps) in state.updates {
            let (first, second) = (find(&first, &name)?, find(&second, &name)?);
            let (first, second) = (first.shallow_clone(), second.shallow_clone());
            session.optimiser.restore(name, Moments { first, second, steps });
        }
        session.materialise()?;
        Ok(session)
    }
}

fn check_version(path: &Path, text: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Header {
        format: String,
        version: u32,
    }
    let header: Header = serde_json::from_str(text).map_err(|e| Error::file(path, e))?;
    if header.format != FORMAT {
        return Err(Error::file(path, format!("format {}, expected {FORMAT}", header.format)));
    }
    if header.version != VERSION {
        let reason = format!("version {}, this program reads {VERSION}", header.version);
        return Err(Error::file(path, reason));
    }
    Ok(())
}

fn with_prefix(tensors: &Weights, prefix: &str) -> Weights {
    let own =
        tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    own.map(|(name, tensor)| (name.to_string(), tensor.shallow_clone())).collect()
}

fn find<'a>(tensors: &'a Weights, name: &str) -> Result<&'a Tensor> {
    tensors.get(name).ok_or_else(|| Error::Unknown {
        kind: "tensor",
        name: name.into(),
        known: tensors.keys().cloned().collect::<Vec<_>>().join(", "),
    })
}
