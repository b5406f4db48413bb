//! Networks that cannot be built smaller: units that leave stay in place, as zeros.

use super::{Landing, Narrowing, Supernet, Weights};
use crate::models::Architecture;
use crate::space::{DimensionKind, SearchSpace, Size};
use crate::{Error, Result};

/// Whether a family can be built at other sizes. Asked before the search, not at its first cut.
pub(super) fn shrinks<A: Architecture>(architecture: &A, space: &SearchSpace) -> Result<bool> {
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
    pub fn shrinks(&self) -> bool {
        self.shrinks
    }

    /// The weights at the last materialised gates, without the units that stay in place as zeros:
    /// sliced to [`sizes`](Self::sizes).
    ///
    /// # Errors
    /// [`Error::Cells`] if a size fits no cell.
    pub fn sliced_weights(&self) -> Result<Weights> {
        let states = self.states.iter().enumerate();
        let landed = states.filter_map(|(at, state)| {
            let landing = state.landing.as_ref().filter(|landing| landing.in_place)?;
            Some((at, landing.size))
        });
        let slices = Narrowing::new(&self.space, &self.states, &landed.collect::<Vec<_>>())?;
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
            if size == state.cells().full() {
                state.landing = None;
                continue;
            }
            let kept = state.survivors(size)?;
            let from = state.score.f_zeros_like()?;
            let mut landing = Landing::new(&state.active, &kept, size, &from, 0)?;
            (landing.remaining, landing.in_place) = (0.0, true);
            state.landing = Some(landing);
        }
        self.regate(&raw)
    }
}
