//! Scores and α of all dimensions in two buffers, for the optimiser.

use super::{DimensionState, Supernet};
use crate::models::Architecture;
use crate::optim::{FlatTensors, Layout};
use crate::tensors::to_host;
use crate::{Error, Result};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Buffers of which scores and α are views.
#[derive(Debug)]
pub(super) struct Learned {
    scores: FlatTensors,
    alphas: FlatTensors,
}

impl Learned {
    pub(super) fn new(device: Device) -> Result<Self> {
        let empty = || FlatTensors::zeros(&Arc::new(Layout::default()), Kind::Float, device);
        Ok(Self { scores: empty()?, alphas: empty()? })
    }

    /// Returns whether a parameter is the scores of a dimension.
    pub(super) fn is_score(&self, name: &str) -> bool {
        self.scores.layout().get(name).is_some()
    }
}

impl<A: Architecture> Supernet<A> {
    /// Scores of all dimensions, in one buffer, as of the last [`join_learned`](Self::join_learned).
    pub(crate) fn scores(&self) -> &FlatTensors {
        &self.learned.scores
    }

    /// α of all undecided dimensions, in one buffer, as of the last
    /// [`join_learned`](Self::join_learned).
    pub(crate) fn alphas(&self) -> &FlatTensors {
        &self.learned.alphas
    }

    /// Refuses scores that are not finite, in one transfer from the device.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming the dimension.
    pub(crate) fn expect_finite_scores(&self) -> Result<()> {
        let sums = self
            .states
            .iter()
            .map(|state| state.score.f_detach()?.f_to_kind(Kind::Double)?.f_abs()?.f_sum(None));
        let sums: Vec<Tensor> = sums.collect::<std::result::Result<_, _>>()?;
        if sums.is_empty() {
            return Ok(());
        }
        let sums = to_host(&Tensor::f_stack(&sums, 0)?)?;
        match self.states.iter().zip(sums).find(|(_, sum)| !sum.is_finite()) {
            None => Ok(()),
            Some((state, _)) => {
                let (name, dimension) = ("score".into(), state.name.clone());
                Err(Error::NonFinite { name, dimension })
            }
        }
    }

    /// Moves scores and α of undecided dimensions into one buffer each, unless they are there.
    ///
    /// θ is laid out anew if it lacks a learned variable, or has one that is frozen now and has no units: its layout is the
    /// same in a resumed search.
    pub(crate) fn join_learned(&mut self) -> Result<()> {
        let device = self.device;
        if !self.ever_learned().eq(self.gating.learned()) {
            let weights = self.raw_weights();
            self.rebuild_gating(&weights)?;
        }
        let scores = self.states.iter_mut().map(|state| (state.score_name(), &mut state.score));
        join(&mut self.learned.scores, scores.collect(), device)?;
        let undecided = |state: &&mut DimensionState| state.active.decided().is_none();
        let alphas = self.states.iter_mut().filter(undecided);
        let alphas = alphas.map(|state| (state.alpha_name(), &mut state.alpha));
        join(&mut self.learned.alphas, alphas.collect(), device)
    }
}

/// Makes leaves of the autograd graph views of one buffer.
fn join(
    buffer: &mut FlatTensors,
    mut leaves: Vec<(String, &mut Tensor)>,
    device: Device,
) -> Result<()> {
    if is_joined(buffer, &leaves)? {
        return Ok(());
    }
    let shapes: Vec<(&str, Vec<i64>)> =
        leaves.iter().map(|(name, leaf)| (name.as_str(), leaf.size())).collect();
    let layout = Arc::new(Layout::new(shapes.iter().map(|(name, shape)| (*name, &shape[..]))));
    drop(shapes);
    let mut values = leaves.iter();
    let joined = FlatTensors::gather(&layout, device, |_| values.next().map(|(_, leaf)| &**leaf))?;
    for (segment, (_, leaf)) in layout.segments().iter().zip(&mut leaves) {
        leaf.f_set_data(&joined.tensor(segment)?)?;
    }
    *buffer = joined;
    Ok(())
}

/// Returns whether the leaves are the tensors of the buffer: in its memory, and no others.
fn is_joined(buffer: &FlatTensors, leaves: &[(String, &mut Tensor)]) -> Result<bool> {
    let segments = buffer.layout().segments();
    if segments.len() != leaves.len() {
        return Ok(false);
    }
    for (segment, (name, leaf)) in segments.iter().zip(leaves) {
        let own = buffer.tensor(segment)?;
        if segment.name != *name || own.data_ptr() != leaf.data_ptr() || own.size() != leaf.size() {
            return Ok(false);
        }
    }
    Ok(true)
}
