//! Networks that cannot be built smaller: units that leave stay in place, as zeros.

use super::{FadeOut, Narrowing, Supernet, Weights};
use crate::models::Architecture;
use crate::space::{DimensionKind, SearchSpace, Size};
use crate::{Error, Result};

/// Whether a family can be built at other sizes. Asked before the search, not at its first cut.
pub(super) fn can_narrow<A: Architecture>(architecture: &A, space: &SearchSpace) -> Result<bool> {
    match architecture.resized(&space.full_sizes()) {
        Ok(_) => Ok(true),
        Err(Error::Unsupported { .. }) => expect_exact::<A>(space).map(|()| false),
        Err(error) => Err(error),
    }
}

/// LayerNorm sees the zeros of an embedding: such a network would not be the one extracted.
fn expect_exact<A: Architecture>(space: &SearchSpace) -> Result<()> {
    let inexact = |kind| kind == DimensionKind::Embedding;
    match space.dimensions.iter().any(|dimension| inexact(dimension.kind)) {
        false => Ok(()),
        true => {
            let operation = "an embedding in the space of a network that cannot be resized";
            Err(Error::Unsupported { model: A::FAMILY.into(), operation })
        }
    }
}

impl<A: Architecture> Supernet<A> {
    /// Whether units leave for good at a cut, or stay in place as zeros because the network cannot
    /// be built at other sizes.
    pub fn can_narrow(&self) -> bool {
        self.can_narrow
    }

    /// The weights at the last materialised gates, without the units that stay in place as zeros:
    /// sliced to [`sizes`](Self::sizes).
    ///
    /// # Errors
    /// [`Error::Candidates`] if a size fits no candidate.
    pub fn sliced_weights(&self) -> Result<Weights> {
        let states = self.states.iter().enumerate();
        let faded = states.filter_map(|(at, state)| {
            let fade_out = state.fade_out.as_ref().filter(|fade_out| fade_out.in_place)?;
            Some((at, fade_out.size))
        });
        let slices = Narrowing::new(&self.space, &self.states, &faded.collect::<Vec<_>>())?;
        let weights = self.folded_weights().into_iter();
        weights
            .map(|(name, weight)| {
                let sliced = slices.apply(&name, &weight)?;
                Ok((name, sliced))
            })
            .collect()
    }

    /// Brings dimensions down to the given sizes without taking a unit out.
    pub(super) fn keep_in_place(&mut self, sizes: &[(usize, Size)]) -> Result<()> {
        let raw = self.raw_weights();
        for &(at, size) in sizes {
            let state = &mut self.states[at];
            if size == state.candidates().full() {
                state.fade_out = None;
                continue;
            }
            let kept = state.kept_units(size)?;
            let from = state.score.f_zeros_like()?;
            let mut fade_out = FadeOut::new(&state.active, &kept, size, &from, 0)?;
            (fade_out.remaining, fade_out.in_place) = (0.0, true);
            state.fade_out = Some(fade_out);
        }
        self.rebuild_gating(&raw)
    }
}
