//! Pruning in place: for networks that cannot be built at other sizes, pruned units stay as zeros.

use super::{FadeOut, Narrowing, Supernet, Weights};
use crate::models::Architecture;
use crate::space::{DimensionKind, SearchSpace, Size};
use crate::{Error, Result};

/// Returns whether an architecture can be built at other sizes; checked when the supernet is built.
pub(super) fn can_narrow<A: Architecture>(architecture: &A, space: &SearchSpace) -> Result<bool> {
    match architecture.resized(&space.full_sizes()) {
        Ok(_) => Ok(true),
        Err(Error::Unsupported { .. }) => expect_exact::<A>(space).map(|()| false),
        Err(error) => Err(error),
    }
}

/// Checks that the space has no embedding dimension: LayerNorm would average over its zeros, so the
/// extracted subnet would compute another function.
fn expect_exact<A: Architecture>(space: &SearchSpace) -> Result<()> {
    let inexact = |kind| kind == DimensionKind::Embedding;
    match space.dimensions.iter().any(|dimension| inexact(dimension.kind)) {
        false => Ok(()),
        true => {
            let operation =
                "an embedding dimension, because it cannot be resized; search without it";
            Err(Error::Unsupported { model: A::FAMILY.into(), operation })
        }
    }
}

impl<A: Architecture> Supernet<A> {
    /// Whether the network can be rebuilt at smaller sizes. If not, pruned units stay in place,
    /// with gates at zero.
    pub fn can_narrow(&self) -> bool {
        self.can_narrow
    }

    /// Returns the weights of the last [`materialise`](Self::materialise), sliced to
    /// [`sizes`](Self::sizes): without the units pruned in place.
    ///
    /// # Errors
    /// [`Error::Candidates`] if no candidate fits into a size.
    pub fn sliced_weights(&self) -> Result<Weights> {
        let states = self.states.iter().enumerate();
        let faded = states.filter_map(|(at, state)| {
            let fade_out = state.fade_out.as_ref().filter(|fade_out| fade_out.in_place)?;
            Some((at, fade_out.size))
        });
        let faded = self.smaller(&faded.collect::<Vec<_>>());
        let kept = self.kept_on_host(&faded)?;
        let slices = Narrowing::new(&self.space, &self.states, &faded, &kept)?;
        let weights = self.folded_weights().into_iter();
        weights
            .map(|(name, weight)| {
                let sliced = slices.apply(&name, &weight)?;
                Ok((name, sliced))
            })
            .collect()
    }

    /// Prunes dimensions to the given sizes in place: gates of pruned units are zero from now on.
    pub(super) fn prune_in_place(&mut self, sizes: &[(usize, Size)]) -> Result<()> {
        let raw = self.raw_weights();
        let kept = self.kept_on_host(sizes)?;
        for (&(at, size), kept) in sizes.iter().zip(&kept) {
            let state = &mut self.states[at];
            if size == state.candidates().full() {
                state.fade_out = None;
                continue;
            }
            let from = state.score.f_zeros_like()?;
            let mut fade_out = FadeOut::new(&state.active, kept, size, &from, 0)?;
            (fade_out.remaining, fade_out.in_place) = (0.0, true);
            state.fade_out = Some(fade_out);
        }
        self.rebuild_gating(&raw)
    }
}
