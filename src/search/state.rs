//! The state of a session as files, and back.

use super::event::Phase;
use super::guard::{Counts, Guard};
use super::method::Method;
use super::options::SearchOptions;
use super::session::Session;
use crate::cost::Budget;
use crate::models::Architecture;
use crate::optim::{Average, Moments};
use crate::space::{SearchSpace, Size, Sizes};
use crate::supernet::{DimensionState, Landing, Supernet, Weights};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use tch::{Device, Tensor};

const FORMAT: &str = "once-for-both/checkpoint";
const VERSION: u32 = 1;
pub(super) const STATE: &str = "state.json";
const TENSORS: &str = "tensors.safetensors";

/// Everything of a checkpoint that is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State<A> {
    format: String,
    version: u32,
    family: String,
    pub(super) step: u64,
    phase: Phase,
    architecture: A,
    space: SearchSpace,
    dense: Sizes,
    dimensions: Vec<DimensionRecord>,
    pmim: bool,
    /// Updates AdamW has made to each parameter.
    updates: BTreeMap<String, u64>,
    pub(super) budgets: Vec<Budget>,
    pub(super) options: SearchOptions,
    /// The method in words.
    method: String,
    /// Dimensions that projection has decided.
    projected: usize,
    /// Steps that were not finite.
    guard: Counts,
    /// Updates of the moving average.
    averaged: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct DimensionRecord {
    active: Vec<bool>,
    /// Missing in files of before it was kept; the cells of now are taken for it then.
    #[serde(default)]
    cells_at_start: Option<usize>,
    origin: Vec<i64>,
    landing: Option<LandingRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LandingRecord {
    since: u64,
    size: Size,
    kept: Vec<i64>,
    #[serde(default)]
    in_place: bool,
}

impl<A: Architecture> Session<A> {
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let state = self.state()?;
        let json = serde_json::to_vec_pretty(&state).map_err(|e| Error::file(folder, e))?;
        let path = folder.join(STATE);
        std::fs::write(&path, json).map_err(|source| Error::io("write", path, source))?;
        crate::tensors::write(&folder.join(TENSORS), &self.tensors()?)
    }

    pub(super) fn state(&self) -> Result<State<A>> {
        let supernet = &self.supernet;
        let landing = |landing: &Landing| -> Result<LandingRecord> {
            Ok(LandingRecord {
                since: landing.since,
                size: landing.size,
                kept: landing.kept()?,
                in_place: landing.in_place,
            })
        };
        let record = |state: &DimensionState| -> Result<DimensionRecord> {
            Ok(DimensionRecord {
                active: state.active.flags().to_vec(),
                cells_at_start: Some(state.cells_at_start),
                origin: state.origin.clone(),
                landing: state.landing.as_ref().map(landing).transpose()?,
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
            updates: self
                .optimiser
                .moments()
                .iter()
                .map(|(name, m)| (name.clone(), m.steps))
                .collect(),
            budgets: self.budgets.clone(),
            options: self.options.clone(),
            method: self.method.describe(),
            projected: self.projected,
            guard: self.guard.counts()?,
            averaged: self.average.as_ref().map_or(0, Average::updates),
        })
    }

    pub(super) fn tensors(&self) -> Result<Weights> {
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
            if let Some(landing) = &state.landing {
                tensors.insert(format!("from/{}", state.name), landing.from().shallow_clone());
            }
        }
        for (name, moments) in self.optimiser.moments() {
            tensors.insert(format!("first/{name}"), moments.first.shallow_clone());
            tensors.insert(format!("second/{name}"), moments.second.shallow_clone());
        }
        for (name, mean) in self.average.iter().flat_map(Average::values) {
            tensors.insert(format!("average/{name}"), mean.shallow_clone());
        }
        Ok(tensors)
    }

    /// Goes on from a checkpoint; the rest of the run equals an uninterrupted one.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] if the checkpoint is damaged, foreign or of a newer version;
    /// [`Error::Resume`] if what it holds does not fit together, or the network cannot be built.
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
        check_header(&path, &text, A::FAMILY)?;
        let state: State<A> = serde_json::from_str(&text).map_err(|e| Error::file(&path, e))?;
        let method = method(&state.options)?;
        if method.describe() != state.method {
            let (made, given) = (&state.method, method.describe());
            return Err(Error::file(path, format!("made with {made}, resumed with {given}")));
        }
        let tensors = crate::tensors::read(&checkpoint.join(TENSORS), device)?;
        Self::restore(state, &tensors, method, device).map_err(|source| {
            let path = checkpoint.to_path_buf();
            Error::Resume { path, source: Box::new(source) }
        })
    }

    pub(super) fn restore(
        state: State<A>,
        tensors: &Weights,
        method: Method,
        device: Device,
    ) -> Result<Self> {
        let mut supernet =
            Supernet::restore(state.architecture, state.space, state.dense, state.pmim, device)?;
        supernet.weigh_by(Rc::clone(&method.bi_mask));
        supernet.load_weights(&with_prefix(tensors, "weight/"))?;
        restore_dimensions(&mut supernet, state.dimensions, state.step, tensors)?;
        let mut session = Self::assemble(supernet, state.budgets, state.options, method)?;
        (session.step, session.phase) = (state.step, state.phase);
        (session.projected, session.timer.1) = (state.projected, state.step);
        session.guard = Guard::new(state.guard, device)?;
        if let Some(decay) = session.options.average {
            let values = with_prefix(tensors, "average/");
            session.average = Some(Average::restore(decay, state.averaged, values)?);
        }
        let (first, second) = (with_prefix(tensors, "first/"), with_prefix(tensors, "second/"));
        for (name, steps) in state.updates {
            let (first, second) = (find(&first, &name)?, find(&second, &name)?);
            let (first, second) = (first.shallow_clone(), second.shallow_clone());
            session.optimiser.restore(name, Moments { first, second, steps });
        }
        session.approach();
        session.compute_as_due()?;
        Ok(session)
    }
}

fn restore_dimensions<A: Architecture>(
    supernet: &mut Supernet<A>,
    records: Vec<DimensionRecord>,
    step: u64,
    tensors: &Weights,
) -> Result<()> {
    let dimensions = supernet.states().len();
    if records.len() != dimensions {
        let (name, expected) = ("number of dimensions", dimensions.to_string());
        return Err(Error::invalid(name, expected, records.len()));
    }
    let (departed, from) = (with_prefix(tensors, "departed/"), with_prefix(tensors, "from/"));
    let (scores, alphas) = (with_prefix(tensors, "score/"), with_prefix(tensors, "alpha/"));
    let mut landings = Vec::new();
    for (at, (own, record)) in supernet.states_mut().iter_mut().zip(records).enumerate() {
        let name = own.name.clone();
        own.set_score(find(&scores, &name)?)?;
        own.set_alpha(find(&alphas, &name)?)?;
        own.set_active(record.active)?;
        own.cells_at_start = record.cells_at_start.unwrap_or(own.cells().len());
        own.origin = record.origin;
        own.departed = departed.get(&name).map(Tensor::shallow_clone);
        if let Some(landing) = record.landing {
            if landing.since > step {
                let name = format!("begin of the landing of {name}");
                return Err(Error::invalid(name, format!("step {step} or before"), landing.since));
            }
            landings.push((at, landing, find(&from, &name)?));
        }
    }
    for (at, landing, from) in landings {
        let (since, in_place) = (landing.since, landing.in_place);
        supernet.resume_landing(at, &landing.kept, landing.size, from, since, in_place)?;
    }
    Ok(())
}

fn check_header(path: &Path, text: &str, family: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Header {
        format: String,
        version: u32,
        family: String,
    }
    let header: Header = serde_json::from_str(text).map_err(|e| Error::file(path, e))?;
    if header.format != FORMAT {
        return Err(Error::file(path, format!("format {}, expected {FORMAT}", header.format)));
    }
    if header.version != VERSION {
        let reason = format!("version {}, this program reads {VERSION}", header.version);
        return Err(Error::file(path, reason));
    }
    if header.family != family {
        let reason = format!("of a network of family {}, expected {family}", header.family);
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
    tensors.get(name).ok_or_else(|| Error::unknown("tensor", name, tensors.keys()))
}
