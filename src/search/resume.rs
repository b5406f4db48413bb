//! The state of a search as files: reading, and the search that is resumed from it.

use super::checkpoint::CHECKPOINT;
use super::consistency;
use super::evidence::Evidence;
use super::latency::SearchLatency;
use super::snapshot::{DimensionRecord, State, FORMAT, STATE, TENSORS, VERSION};
use super::step::Search;
use super::step_timer::StepTimer;
use super::update::NonFiniteCounter;
use crate::checksums;
use crate::components::Components;
#[cfg(feature = "pipeline")]
use crate::components::{ComponentId, Teacher};
use crate::files::restore_folder;
use crate::models::Architecture;
use crate::optim::{Ema, Moments};
use crate::supernet::{ParameterKind, Supernet, Weights};
use crate::{typed, Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Tensor};

/// The JSON part of a checkpoint on disk.
#[derive(Debug)]
pub(super) struct Snapshot<A> {
    folder: PathBuf,
    pub(super) state: State<A>,
}

impl<A: Architecture> Snapshot<A> {
    /// Reads the JSON part of a checkpoint, and checks every file against its checksum; tensors are
    /// read when a search is made of it.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        restore_folder(folder, &CHECKPOINT)?;
        let path = folder.join(STATE);
        let text = crate::files::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        check_header(&path, &text, A::FAMILY)?;
        checksums::check(folder, &[STATE, TENSORS], &[], &[])?;
        let state = typed::from_json(text.as_bytes()).map_err(|e| Error::file(&path, e))?;
        Ok(Self { folder: folder.into(), state })
    }
}

/// The teacher of a search that is only looked at.
#[cfg(feature = "pipeline")]
struct AbsentTeacher(ComponentId);

#[cfg(feature = "pipeline")]
impl Teacher for AbsentTeacher {
    fn id(&self) -> ComponentId {
        self.0.clone()
    }

    fn logits(&self, _: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("teacher", "one that is loaded", &self.0))
    }
}

impl<A: Architecture> Search<A> {
    /// Resumes a search from a checkpoint whose components are all of this crate, and whose task is not
    /// [`Contrastive`](crate::components::Contrastive), as text embeddings are in no checkpoint; the rest of the search is
    /// bit-exact to an uninterrupted one.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::File`] or [`Error::Checksum`] if the checkpoint is damaged, foreign or
    /// of another version; [`Error::Component`] for a component of the user's own or a contrastive task, which
    /// [`resume_with`](Self::resume_with) is given; [`Error::Resume`]
    /// if its parts do not fit together, before a tensor is allocated, or the network cannot be built.
    pub fn resume(checkpoint: impl AsRef<Path>, device: Device) -> Result<Self> {
        Self::resume_from(Snapshot::read(checkpoint.as_ref())?, None, device)
    }

    /// Resumes a search from a checkpoint with components handed over by the caller.
    ///
    /// # Errors
    /// Those of [`resume`](Self::resume); [`Error::Component`] for a component that is not the one
    /// the checkpoint was made with.
    pub fn resume_with(
        components: &Components,
        checkpoint: impl AsRef<Path>,
        device: Device,
    ) -> Result<Self> {
        Self::resume_from(Snapshot::read(checkpoint.as_ref())?, Some(components), device)
    }

    /// [`resume`](Self::resume) to look at a search, not to go on with it: its teacher need not be here.
    #[cfg(feature = "pipeline")]
    pub(crate) fn resume_to_inspect(checkpoint: &Path, device: Device) -> Result<Self> {
        let snapshot = Snapshot::<A>::read(checkpoint)?;
        let mut ids = snapshot.state.components.clone();
        let teacher = ids.teacher.take();
        let mut components = Components::from_ids(&ids)?;
        if let Some(id) = teacher {
            components = components.with_teacher(AbsentTeacher(id));
        }
        Self::resume_from(snapshot, Some(&components), device)
    }

    pub(super) fn resume_from(
        snapshot: Snapshot<A>,
        components: Option<&Components>,
        device: Device,
    ) -> Result<Self> {
        let Snapshot { folder, state } = snapshot;
        let components = match components {
            Some(components) => {
                components.expect_own_names()?;
                components.expect(&state.components)?;
                components.clone()
            }
            None => Components::from_ids(&state.components)?,
        };
        let resumed = consistency::check(&state, &folder)
            .and_then(|()| crate::tensors::read(&folder.join(TENSORS), device))
            .and_then(|tensors| {
                expect_finite(&tensors)?;
                Self::restore(state, &tensors, components, device)
            });
        resumed.map_err(|source| Error::Resume { path: folder, source: Box::new(source) })
    }

    /// Builds a search from its state.
    pub(super) fn restore(
        state: State<A>,
        tensors: &Weights,
        components: Components,
        device: Device,
    ) -> Result<Self> {
        let mut supernet =
            Supernet::restore(state.architecture, state.space, state.dense, state.pmim, device)?;
        supernet.set_learned(&state.learned)?;
        supernet.set_bi_mask(Arc::clone(&components.bi_mask));
        supernet.set_latency(state.latency.as_ref());
        load_weights(&mut supernet, &with_prefix(tensors, "weight/"))?;
        restore_dimensions(&mut supernet, state.dimensions, state.step, tensors)?;
        let mut search =
            Self::assemble(supernet, state.limits, state.options, components, state.origin)?;
        (search.step, search.phase) = (state.step, state.phase);
        search.latency = state.latency.map(|model| SearchLatency { model, meter: None });
        search.projected = state.projected;
        search.timer = StepTimer::start(state.step);
        search.non_finite = NonFiniteCounter::new(state.non_finite, device)?;
        if let Some(decay) = search.options.training.ema_decay {
            let values = with_prefix(tensors, "ema/");
            expect_averaged(&search.supernet, state.ema_updates, &values)?;
            search.ema = Some(Ema::restore(decay, state.ema_updates, values)?);
        }
        let (first, second) = (with_prefix(tensors, "first/"), with_prefix(tensors, "second/"));
        for (name, steps) in state.updates {
            let (first, second) = (find(&first, &name)?, find(&second, &name)?);
            let (first, second) = (first.shallow_clone(), second.shallow_clone());
            search.optimiser.restore(name, Moments { first, second, steps });
        }
        let effects = with_prefix(tensors, "evidence/");
        if !effects.is_empty() {
            let states = search.supernet.states().iter();
            let own = states.map(|state| Ok(find(&effects, &state.name)?.shallow_clone()));
            search.evidence = Evidence::join(&own.collect::<Result<Vec<_>>>()?)?;
        }
        let dense = with_prefix(tensors, "dense/");
        if !dense.is_empty() {
            let origin = consistency::origin(&search.origin)?;
            search.teach_by_dense(origin.architecture, &dense)?;
        }
        search.advance_fade_outs();
        search.set_compute_precision()?;
        Ok(search)
    }
}

/// Loads weights of the types that the network has.
fn load_weights<A: Architecture>(supernet: &mut Supernet<A>, weights: &Weights) -> Result<()> {
    for (name, own) in supernet.raw_weights() {
        if let Some(weight) = weights.get(&name).filter(|weight| weight.kind() != own.kind()) {
            let (expected, actual) = (format!("{:?}", own.kind()), format!("{:?}", weight.kind()));
            return Err(Error::invalid(format!("type of {name}"), expected, actual));
        }
    }
    supernet.load_weights(weights)
}

/// Checks that an EMA has a value for every parameter, once it was updated.
fn expect_averaged<A: Architecture>(
    supernet: &Supernet<A>,
    updates: u64,
    values: &Weights,
) -> Result<()> {
    let parameters = supernet.parameters();
    let mut averaged = parameters.iter().filter(|p| p.kind != ParameterKind::Alpha);
    match averaged.find(|parameter| updates > 0 && !values.contains_key(&parameter.name)) {
        None => Ok(()),
        Some(missing) => Err(Error::unknown("EMA of", &missing.name, values.keys())),
    }
}

/// Refuses tensors with a NaN or an infinity.
///
/// Buffers of the network may be infinite. So may a second moment, after a large gradient, but it
/// is never negative.
fn expect_finite(tensors: &Weights) -> Result<()> {
    for (name, tensor) in tensors.iter().filter(|(_, tensor)| tensor.is_floating_point()) {
        let sound = match name.split('/').next() {
            Some("weight" | "dense") => tensor.f_isnan()?.f_logical_not()?,
            Some("second") => tensor.f_ge(0.0)?,
            _ => tensor.f_isfinite()?,
        };
        if sound.f_all()?.f_int64_value(&[])? == 0 {
            return Err(Error::NonFinite {
                name: name.clone(),
                dimension: "the checkpoint".into(),
            });
        }
    }
    Ok(())
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
    let (pruned_importance, from) =
        (with_prefix(tensors, "pruned_importance/"), with_prefix(tensors, "from/"));
    let (scores, alphas) = (with_prefix(tensors, "score/"), with_prefix(tensors, "alpha/"));
    let (mut fade_outs, can_narrow) = (Vec::new(), supernet.can_narrow());
    for (at, (own, record)) in supernet.states_mut().iter_mut().zip(records).enumerate() {
        let name = own.name.clone();
        own.set_score(find(&scores, &name)?)?;
        own.set_alpha(find(&alphas, &name)?)?;
        own.set_active(record.active)?;
        own.candidates_at_start = record.candidates_at_start;
        own.origin = record.origin;
        own.pruned_importance = pruned_importance.get(&name).map(Tensor::shallow_clone);
        if let Some(fade_out) = record.fade_out {
            if fade_out.in_place && can_narrow {
                let name = format!("fade-out of {name}");
                let expected = "one that ends with pruning, because the network can be resized";
                return Err(Error::invalid(name, expected, "one in place"));
            }
            if fade_out.since > step {
                let name = format!("first step of the fade-out of {name}");
                return Err(Error::invalid(name, format!("step {step} or before"), fade_out.since));
            }
            fade_outs.push((at, fade_out, find(&from, &name)?));
        }
    }
    for (at, fade_out, from) in fade_outs {
        let (since, in_place) = (fade_out.since, fade_out.in_place);
        supernet.restore_fade_out(at, &fade_out.kept, fade_out.size, from, since, in_place)?;
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
    let header: Header = typed::from_json(text.as_bytes()).map_err(|e| Error::file(path, e))?;
    if header.format != FORMAT {
        return Err(Error::file(path, format!("format: got {}, expected {FORMAT}", header.format)));
    }
    if header.version != VERSION {
        let reason = format!("version: got {}, expected {VERSION}", header.version);
        return Err(Error::file(path, reason));
    }
    if header.family != family {
        let reason = format!("family: got {}, expected {family}", header.family);
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
    tensors.get(name).ok_or_else(|| Error::missing("tensor", name))
}
