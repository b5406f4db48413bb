//! Narrowing: slices of all tensors that are indexed by pruned units.

use super::flat::{indices, narrow_flat};
use super::state::DimensionState;
use crate::space::{Binding, SearchSpace, Size};
use crate::Result;
use std::collections::BTreeMap;
use tch::Tensor;

/// One slice of one variable.
#[derive(Debug)]
struct Slice {
    binding: Binding,
    kept: Tensor,
}

/// Slices by parameter name, from one prune step: for weights, scores, α, and tensors shaped like
/// them (optimiser moments, EMA).
#[derive(Debug, Default)]
pub struct Narrowing {
    slices: BTreeMap<String, Vec<Slice>>,
    /// Kept flat indices and new shape of scores and α.
    flat: BTreeMap<String, (Tensor, [i64; 2])>,
    /// Kept units of every narrowed dimension, by its index in the search space.
    kept: BTreeMap<usize, Vec<i64>>,
    /// Variables that the network has no more.
    pub(super) vanished: Vec<String>,
}

impl Narrowing {
    /// Builds the slices that prune dimensions to the given sizes, keeping these units of each.
    pub(super) fn new(
        space: &SearchSpace,
        states: &[DimensionState],
        sizes: &[(usize, Size)],
        kept: &[Vec<i64>],
    ) -> Result<Self> {
        let mut narrowing = Self::default();
        for (&(at, size), kept) in sizes.iter().zip(kept) {
            let on_device = indices(kept, states[at].score.device())?;
            narrowing.add_weights(space, &states[at], at, size, &on_device)?;
            narrowing.add_state(&states[at], size, on_device)?;
            narrowing.kept.insert(at, kept.clone());
        }
        Ok(narrowing)
    }

    /// Builds the slices of weights alone: the sizes need no active candidate.
    pub(super) fn of_weights(
        space: &SearchSpace,
        states: &[DimensionState],
        sizes: &[(usize, Size)],
    ) -> Result<Self> {
        let mut narrowing = Self::default();
        for &(at, size) in sizes {
            let kept = states[at].kept_units(size)?;
            narrowing.add_weights(space, &states[at], at, size, &kept)?;
        }
        Ok(narrowing)
    }

    /// Whether no dimension is narrowed.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn add_weights(
        &mut self,
        space: &SearchSpace,
        state: &DimensionState,
        at: usize,
        size: Size,
        kept: &Tensor,
    ) -> Result<()> {
        let channels = state.candidates().channels();
        for binding in &space.dimensions[at].bindings {
            let kept = binding.entries_of(kept, size, channels)?;
            let slice = Slice { binding: binding.clone(), kept };
            self.slices.entry(binding.variable.clone()).or_default().push(slice);
        }
        Ok(())
    }

    fn add_state(&mut self, state: &DimensionState, size: Size, kept: Tensor) -> Result<()> {
        let (active, kept_candidates) = state.active.narrowed(size)?;
        let (alpha, score) = (active.candidates().shape(), active.candidates().unit_shape());
        self.flat.insert(state.alpha_name(), (kept_candidates, alpha));
        self.flat.insert(state.score_name(), (kept, score));
        Ok(())
    }

    /// Returns a tensor shaped like the named parameter, sliced to the kept units; other names are
    /// returned unchanged. Of scores it may have further axes before those of heads and channels.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the tensor has another shape, [`crate::Error::Invalid`] if it lacks an axis.
    pub fn apply(&self, name: &str, tensor: &Tensor) -> Result<Tensor> {
        crate::autograd::no_grad(|| {
            if let Some((kept, shape)) = self.flat.get(name) {
                return narrow_flat(tensor, kept, *shape);
            }
            let mut narrowed = tensor.f_detach()?;
            for slice in self.slices.get(name).into_iter().flatten() {
                narrowed = slice.binding.select(&narrowed, &slice.kept)?;
            }
            Ok(narrowed)
        })
    }

    /// Returns the names of the variables that the network has no more, because their branch was removed.
    pub fn vanished(&self) -> &[String] {
        &self.vanished
    }

    /// Returns the kept units of a dimension as flat indices before pruning; `None` if it is not
    /// narrowed.
    pub fn kept(&self, dimension: usize) -> Option<&[i64]> {
        self.kept.get(&dimension).map(Vec::as_slice)
    }
}
